/** Files and Unix sockets with the right owner and mode. What another Unix user could change is refused. */
export { assertPrivateFile, assertPrivateFolder, createFile, octal, replaceFile, syncFolder } from './private-file.ts'
export { DatagramError, sendDatagrams } from './datagram.ts'
export { makeFolders, makeFoldersSync } from './make-folders.ts'
export { lockFolder } from './folder-lock.ts'
export { asStartFailure, fileFailure, listenFailure } from './start-failure.ts'
export { readTlsFiles, type TlsFiles, type TlsMaterial } from './tls-files.ts'
export { currentTls, RenewedTls } from './renewed-tls.ts'
export { listenAt, listening, type SocketPlace } from './unix-socket.ts'
