import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { chmodSync, copyFileSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import {
  createPeers,
  identifyPeer,
  parseStartTime,
  readPeerCredentials,
} from '../../src/identity/workload/peer-credentials.ts'

const CONNECTOR = join(import.meta.dirname, 'connector.mjs')
const ALL = { exe: true, sha256: true }
const NONE = { exe: false, sha256: false }
const sha256 = (path: string): string => createHash('sha256').update(readFileSync(path)).digest('hex')
const startOf = (pid: number): string => parseStartTime(readFileSync(`/proc/${pid}/stat`, 'utf8'))!

let folder: string
let server: Server
const children: ChildProcess[] = []
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'deputy-peer-'))
  server = createServer().listen(join(folder, 's'))
  await once(server, 'listening')
})
afterEach(async () => {
  for (const child of children.splice(0)) {
    if (child.exitCode === null && child.signalCode === null) {
      child.kill('SIGKILL')
      await once(child, 'exit')
    }
  }
  server.close()
  rmSync(folder, { recursive: true, force: true })
})

const start = (command: string, args: readonly string[], user: { uid?: number; gid?: number } = {}): ChildProcess => {
  const child = spawn(command, [...args], { stdio: ['ignore', 'pipe', 'inherit'], ...user })
  children.push(child)
  return child
}
const connectFrom = async (
  command: string,
  user: { uid?: number; gid?: number } = {},
): Promise<{ socket: Socket; child: ChildProcess }> => {
  const arriving = once(server, 'connection') as Promise<[Socket]>
  const child = start(command, [CONNECTOR, join(folder, 's'), 'stay'], user)
  const [socket] = await arriving
  return { socket, child }
}

describe('peer credentials', () => {
  it('come from the kernel: pid, uid and gid of who connected', async () => {
    const { socket, child } = await connectFrom(process.execPath)
    expect(readPeerCredentials(socket)).toEqual({ pid: child.pid, uid: process.getuid!(), gid: process.getgid!() })
    socket.destroy()
  })

  it('are those of the user as whom the process runs', async ({ skip }) => {
    if (process.getuid!() !== 0) skip('only root can start processes of another user')
    chmodSync(folder, 0o755)
    chmodSync(join(folder, 's'), 0o777)
    const { socket } = await connectFrom(process.execPath, { uid: 65_534, gid: 65_533 })
    expect(readPeerCredentials(socket)).toMatchObject({ uid: 65_534, gid: 65_533 })
    socket.destroy()
  })

  it('are not there on a TCP socket', async () => {
    const tcp = createServer().listen(0, '127.0.0.1')
    await once(tcp, 'listening')
    const arriving = once(tcp, 'connection') as Promise<[Socket]>
    const client = connect((tcp.address() as { port: number }).port, '127.0.0.1')
    const [socket] = await arriving
    expect(readPeerCredentials(socket)).toBeUndefined()
    const peers = createPeers(() => ALL)
    peers.capturePeer(socket)
    expect(peers.of(socket)).toBeUndefined()
    client.destroy()
    tcp.close()
  })

  it('lead to the executable and its digest when a server is told apart by them', async () => {
    const peers = createPeers(() => ALL)
    const { socket, child } = await connectFrom(process.execPath)
    peers.capturePeer(socket)
    expect(await peers.of(socket)).toMatchObject({
      pid: child.pid,
      exe: process.execPath,
      sha256: sha256(process.execPath),
    })
    socket.destroy()
  })

  it('read nothing about the process when no server needs it, and do so after a reload that makes one need it', async () => {
    let wants = NONE
    const peers = createPeers(() => wants)
    const { socket } = await connectFrom(process.execPath)
    peers.capturePeer(socket)
    expect(await peers.of(socket)).not.toHaveProperty('exe')
    wants = { exe: true, sha256: false }
    expect(await peers.of(socket)).toMatchObject({ exe: process.execPath })
    socket.destroy()
  })

  it('are looked up once a connection', async () => {
    const peers = createPeers(() => ALL)
    const { socket } = await connectFrom(process.execPath)
    peers.capturePeer(socket)
    const first = await peers.of(socket)
    expect(await peers.of(socket)).toBe(first)
    const before = performance.now()
    for (let at = 0; at < 10_000; at += 1) await peers.of(socket)
    expect((performance.now() - before) / 10).toBeLessThan(50)
    socket.destroy()
  })

  it('leave no descriptor open', async () => {
    const peers = createPeers(() => ALL)
    const { socket } = await connectFrom(process.execPath)
    const before = readdirSync('/proc/self/fd').length
    for (let at = 0; at < 50; at += 1) {
      peers.capturePeer(socket)
      await peers.of(socket)
    }
    expect(readdirSync('/proc/self/fd').length).toBeLessThanOrEqual(before + 1)
    socket.destroy()
  })

  it('threat 2: a caller that ended before it was looked up is refused', async () => {
    const arriving = once(server, 'connection') as Promise<[Socket]>
    // This process waits meanwhile: the kernel accepts the connection, and the caller is gone when it is looked at.
    spawnSync(process.execPath, [CONNECTOR, join(folder, 's'), 'leave'])
    const [socket] = await arriving
    const peers = createPeers(() => ALL)
    peers.capturePeer(socket)
    await expect(peers.of(socket)).rejects.toMatchObject({ code: 'workload_vanished' })
    socket.destroy()
  })

  it('threat 2: a caller that ends between connection and look-up is refused', async () => {
    const peers = createPeers(() => ALL)
    const { socket, child } = await connectFrom(process.execPath)
    peers.capturePeer(socket)
    child.kill('SIGKILL')
    await once(child, 'exit')
    await expect(peers.of(socket)).rejects.toMatchObject({ code: 'workload_vanished' })
    socket.destroy()
  })

  it('threat 2: another process under the same pid is not taken for the caller', async () => {
    const startedAt = String(Number(startOf(process.pid)) - 1)
    await expect(identifyPeer({ pid: process.pid, uid: 0, gid: 0, startedAt }, ALL)).rejects.toMatchObject({
      code: 'workload_vanished',
    })
    await expect(identifyPeer({ pid: process.pid, uid: 0, gid: 0 }, ALL)).rejects.toMatchObject({
      code: 'workload_vanished',
    })
  })

  it('threat 2: another file put in the place of the executable does not stand for it', async () => {
    const path = join(folder, 'tool')
    copyFileSync('/bin/sleep', path)
    const child = start(path, ['30'])
    await once(child, 'spawn')
    const digest = sha256(path)
    const peer = { pid: child.pid!, uid: 0, gid: 0, startedAt: startOf(child.pid!) }
    expect(await identifyPeer(peer, ALL)).toMatchObject({ exe: path, sha256: digest })
    copyFileSync('/bin/cat', join(folder, 'other'))
    renameSync(join(folder, 'other'), path)
    const looked = await identifyPeer(peer, ALL)
    expect(looked.sha256).toBe(digest)
    expect(looked.exe).toBeUndefined()
  })

  it('threat 2: what a process mounts over a trusted path in a namespace of its own does not count', async ({
    skip,
  }) => {
    if (spawnSync('unshare', ['-m', 'true']).status !== 0) skip('needs the right to make a mount namespace')
    const trusted = join(folder, 'trusted')
    const evil = join(folder, 'evil')
    copyFileSync('/bin/cat', trusted)
    copyFileSync('/bin/sleep', evil)
    const child = start('unshare', ['-m', 'sh', '-c', `mount --bind ${evil} ${trusted} && exec ${trusted} 30`])
    const deadline = Date.now() + 5000
    const comm = (): string => readFileSync(`/proc/${child.pid}/comm`, 'utf8').trim()
    while (comm() !== 'trusted' && Date.now() < deadline)
      await new Promise((resolve) => {
        setTimeout(resolve, 20)
      })
    const looked = await identifyPeer({ pid: child.pid!, uid: 0, gid: 0, startedAt: startOf(child.pid!) }, ALL)
    expect(looked.exe).not.toBe(trusted)
    expect(looked.sha256).toBe(sha256(evil))
  })

  it('the start time is read right whatever a process calls itself', () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 15 }), fc.nat(), (name, start) => {
        const fields = ['S', ...Array.from({ length: 18 }, () => '7'), String(start), '9', '9']
        expect(parseStartTime(`4242 (${name}) ${fields.join(' ')}`)).toBe(String(start))
      }),
    )
  })
})
