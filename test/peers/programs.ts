/** Programs that no package of npm or Debian brings: where they are, and a loud line where they are not. */
import { existsSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { installedPeer, installPeer, PeerMissingError, peersFolder, peerTitle, type PeerName } from './install.ts'

const sayMissing = (name: PeerName, why: string): undefined => {
  process.stderr.write(`\n*** SKIPPED: the tests that need ${peerTitle(name)}. ${why} ***\n\n`)
  return undefined
}

/** Directly in DEPUTY_PEERS' folder: a version of the user's choice, used as it is. */
export const chosenProgram = (program: string): string | undefined => {
  const path = join(peersFolder(), program)
  return existsSync(path) ? path : undefined
}

/** Chosen, as installed by `npm run test:real`, or on the PATH. */
export const lookForProgram = (peer: PeerName, program: string): string | undefined =>
  chosenProgram(program) ??
  [installedPeer(peer) ?? '', ...(process.env['PATH'] ?? '').split(delimiter)]
    .filter((folder) => folder !== '')
    .map((folder) => join(folder, program))
    .find(existsSync)

/** As `lookForProgram`; undefined, and said loudly, where there is none. */
export const findProgram = (peer: PeerName, program: string): string | undefined =>
  lookForProgram(peer, program) ?? sayMissing(peer, 'Install it with: npm run test:real')

/** For a peer that only some tests need: installs it. @returns its folder; undefined, and said loudly, where it cannot be had */
export const needPeer = async (peer: PeerName): Promise<string | undefined> => {
  try {
    return await installPeer(peer)
  } catch (error) {
    if (!(error instanceof PeerMissingError)) throw error
    return sayMissing(peer, `${error.message}.`)
  }
}
