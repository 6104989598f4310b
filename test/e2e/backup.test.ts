import { randomUUID } from 'node:crypto'
import {
  chown,
  cp,
  lstat,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  symlink,
  writeFile,
} from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startOAuthProvider, type OAuthProviderDouble } from '../doubles/oauth-provider.ts'
import { aCompany, RESOURCES } from '../support/configuration.ts'
import {
  ACCESS_TOKEN,
  ask,
  prepareDaemon,
  startTestIssuer,
  TOKEN_EXCHANGE,
  type Daemon,
  type TestIssuer,
} from '../support/daemon.ts'
import { grantFiles, seedGrants } from '../support/grants.ts'
import { startHere } from '../support/here.ts'
import { runCli, runCliProcess } from '../support/process.ts'

/** The Unix user `nobody`, which has no rights. */
const OTHER_USER = 65_534

let issuer: TestIssuer
let provider: OAuthProviderDouble
let daemon: Daemon
/** Where backups go. */
let folder: string
const at = (name: string): string => join(folder, name)
/** A token of dave's from before the backup. */
let before: string

const exchange = async (home: string, user: string, audience: string, token?: string): Promise<string> => {
  const { status, body } = await ask(
    { socketPath: join(home, 'run/deputy.sock') },
    {
      path: '/oauth2/token',
      headers: { 'content-type': 'application/x-www-form-urlencoded' },
      body: new URLSearchParams({
        grant_type: TOKEN_EXCHANGE,
        subject_token:
          token ?? (await issuer.sign({ aud: RESOURCES.notes, org: user === 'gina' ? 'globex' : 'acme', sub: user })),
        subject_token_type: ACCESS_TOKEN,
        audience,
        scope: audience === 'ledger' ? 'ledger:read' : 'read',
      }).toString(),
    },
  )
  return status === 200 ? 'given' : String(body['reason'])
}

const backUp = (path: string, ...more: string[]) =>
  runCliProcess(daemon.home, ['backup', path, '--key-file', at('key'), ...more])
const restore = (home: string, ...args: string[]) =>
  runCli(home, ['restore', at('one.backup'), '--key-file', at('key'), ...args])

/** A home with the key-encryption key in its place, and nothing else. */
const anEmptyHome = async (name: string): Promise<string> => {
  const home = await mkdtemp(join(tmpdir(), `deputy-${name}-`))
  await mkdir(join(home, 'state'), { mode: 0o700 })
  await cp(join(daemon.home, 'state/kek'), join(home, 'state/kek'))
  return home
}

interface Status {
  readonly checks: Readonly<Record<string, string>>
}
const statusOf = async (home: string): Promise<Status> =>
  JSON.parse((await runCli(home, ['status', '--json'])).out) as Status

/** A daemon that has been restored, for as long as the work takes. */
const whileRunning = async (home: string, work: () => Promise<void>): Promise<string> => {
  let output = ''
  const running = await startHere(home, {}, (text) => {
    output += text
  })
  try {
    await work()
  } finally {
    await running.stop()
  }
  return output
}

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'deputy-backups-'))
  issuer = await startTestIssuer()
  provider = await startOAuthProvider()
  daemon = await prepareDaemon({
    ...aCompany({
      issuer: issuer.url,
      notes: { downstreams: { 'notes-api': { scopes: ['read'] }, ledger: { scopes: ['ledger:read'] } } },
    }),
    ...grantFiles(provider),
  })
  await seedGrants(daemon.home, provider, ['alice', 'bob', 'carol', 'gina'], {
    lifetime: 3_600_000,
    tenantOf: (user) => (user === 'gina' ? 'globex' : 'acme'),
  })
  await cp(join(daemon.home, 'state/kek'), join(daemon.home, 'spare-kek'))
  await daemon.start()
  before = await issuer.sign({ aud: RESOURCES.notes, org: 'acme', sub: 'dave' })
})
afterAll(async () => {
  await daemon?.close()
  await provider?.close()
  await issuer?.close()
  await rm(folder, { recursive: true, force: true })
})

describe('a backup', () => {
  it('is made under load, verified, encrypted, without the key-encryption key; two at once are two, and neither replaces a file', async () => {
    expect((await runCli(daemon.home, ['backup', 'key', at('key')])).code).toBe(0)
    expect((await stat(at('key'))).mode & 0o777).toBe(0o600)
    const load = { over: false, given: 0, other: new Set<string>() }
    const callers = Array.from({ length: 8 }, async () => {
      while (!load.over) {
        const answer = await exchange(daemon.home, 'alice', 'ledger')
        if (answer === 'given') load.given += 1
        else load.other.add(answer)
        await sleep(10)
      }
    })
    const made = await Promise.all([
      backUp(at('one.backup'), '--data-keys', at('keys')),
      backUp(at('two.backup')),
      backUp(at('two.backup')),
    ])
    load.over = true
    await Promise.all(callers)
    expect([load.other.size, load.given > 0]).toEqual([0, true])
    expect([made[0]!.code, made[0]!.err]).toEqual([0, ''])
    expect(made[0]!.out).toContain('read back and verified')
    expect(made[0]!.out).toContain('not in it: spare-kek: it holds the key-encryption key, or the key of the backup')
    expect(made[1]!.code + made[2]!.code).toBe(1)
    expect(made[1]!.err + made[2]!.err).toContain('there is a file of this name already')
    expect((await readdir(folder)).sort()).toEqual(['key', 'keys', 'one.backup', 'two.backup'])
    expect((await stat(at('one.backup'))).mode & 0o777).toBe(0o600)
    const bytes = await readFile(at('one.backup'))
    for (const text of ['alice', 'deputy.yaml', (await readFile(join(daemon.home, 'state/kek'), 'utf8')).trim()])
      expect(bytes.includes(text)).toBe(false)
    expect((await readdir(join(daemon.home, 'state'))).filter((name) => name.startsWith('deputy-backup-'))).toEqual([])
    // The store in it was left behind by a verification that was killed; no process has this number.
    const left = join(tmpdir(), `deputy-backup-99999999-${randomUUID()}`)
    await mkdir(left, { mode: 0o700 })
    const verified = await runCli(daemon.home, ['backup', 'verify', at('one.backup'), '--key-file', at('key')])
    expect(verified.out).toContain('is whole')
    await expect(stat(left)).rejects.toThrow(/ENOENT/)
    expect((await daemon.deputy('audit', 'query', '--event', 'store.backup', '--json')).out).toContain('"done"')
  })

  it('is refused when a bit is another, the end is missing or the key is another, and nothing is written then', async () => {
    const bytes = await readFile(at('one.backup'))
    const home = await anEmptyHome('refused')
    const refused = async (content: Buffer, key = at('key')): Promise<string> => {
      await writeFile(at('bad'), content)
      const { code, err } = await runCli(home, ['restore', at('bad'), '--key-file', key, '--accept-loss'])
      expect(code).toBe(1)
      expect(await readdir(home)).toEqual(['state'])
      expect(await readdir(join(home, 'state'))).toEqual(['kek'])
      return err
    }
    const flipped = Buffer.from(bytes)
    flipped[Math.floor(bytes.length / 2)]! ^= 1
    expect(await refused(flipped)).toContain('altered or cut off at byte')
    await runCli(home, ['backup', 'key', at('other-key')])
    expect(await refused(bytes, at('other-key'))).toContain('the key file is not the one that it was written with')
    const newer = Buffer.from(bytes.toString('latin1').replace('"format":1', '"format":2'), 'latin1')
    expect(await refused(newer)).toContain('a newer Deputy has written it')
    expect(await refused(Buffer.from('something else\n'))).toContain('not a file that deputy backup has written')
    expect(await refused(await readFile(at('keys')))).toContain('it holds data keys, and no store')
    await rm(at('bad'))
    await rm(home, { recursive: true })
  })
})

describe('a restore', () => {
  it('promise 4: does not undo a revocation silently, and reapplies those of a later log', async () => {
    // After the backup: bob is revoked, carol disabled, globex revoked as a whole.
    for (const order of [
      ['revoke', '--tenant', 'acme', '--user', 'bob', '--force'],
      ['user', 'disable', 'carol', '--tenant', 'acme', '--force'],
      ['revoke', '--tenant', 'globex', '--yes'],
    ])
      expect((await daemon.deputy(...order)).code).toBe(0)
    await daemon.stop()
    const home = await anEmptyHome('restored')
    const keys = ['--data-keys', at('keys')]
    const refused = await restore(home, ...keys)
    expect([refused.code, refused.err]).toEqual([1, expect.stringContaining('would be undone')])
    expect(await readdir(join(home, 'state'))).toEqual(['kek'])
    // A log that was cut behind the backup: the heads beside the keys know more.
    const cut = join(folder, 'cut')
    await cp(join(daemon.home, 'state/audit'), cut, { recursive: true })
    const last = join(cut, (await readdir(cut)).filter((name) => name.endsWith('.jsonl')).at(-1)!)
    const lines = (await readFile(last, 'utf8')).replaceAll('\0', '').trimEnd().split('\n')
    await writeFile(last, `${lines.slice(0, -3).join('\n')}\n`)
    await cp(join(daemon.home, 'state/keys'), join(home, 'state/keys'), { recursive: true })
    const shorter = await restore(home, '--log', cut)
    expect([shorter.code, shorter.err]).toEqual([1, expect.stringMatching(/ends at record \d+, and the heads .* know/)])
    await rm(join(home, 'state/keys'), { recursive: true })
    const done = await restore(home, ...keys, '--log', join(daemon.home, 'state/audit'))
    expect([done.code, done.err]).toEqual([0, ''])
    expect(done.out).toContain('since the backup: 2 revocations; in force again')
    // Promise 8: the key of a tenant that was revoked does not come back with an older copy of the keys.
    expect(done.out).toContain('revoked since, so that the data key was left out: globex')
    expect((await readdir(join(home, 'state/keys'))).sort()).toEqual(['_deputy.key', 'acme.key', 'audit-heads'])
    const output = await whileRunning(home, async () => {
      expect(await exchange(home, 'alice', 'notes-api')).toBe('given')
      expect(await exchange(home, 'alice', 'ledger')).toBe('given')
      expect(await exchange(home, 'bob', 'notes-api')).toBe('revoked')
      expect(await exchange(home, 'carol', 'ledger')).toBe('subject_user_disabled')
      expect(await exchange(home, 'gina', 'ledger')).toBe('revoked')
      const verified = await runCli(home, ['audit', 'verify'])
      expect([verified.code, verified.err]).toEqual([0, ''])
      expect((await statusOf(home)).checks['history']).toContain('was restored from a backup')
      const losses = await runCli(home, ['store', 'losses', '--json'])
      const [{ id }] = JSON.parse(losses.out) as [{ id: string }]
      expect((await runCli(home, ['store', 'acknowledge', id])).code).toBe(0)
      expect((await statusOf(home)).checks['history']).toBe('ok')
      expect((await runCli(home, ['audit', 'query', '--event', 'store.restored'])).out).toContain('store.restored')
    })
    expect(output).toContain('an order of the audit log was missing in the store')
    await rm(home, { recursive: true })
  })

  it('without a later log says what is lost, in status and at the heads; a start in between and a running daemon are refused', async () => {
    const home = await anEmptyHome('older')
    expect((await restore(home, '--data-keys', at('keys'), '--accept-loss')).code).toBe(0)
    // Its own log is that of the backup, and no proof that there were no orders since.
    const twice = await restore(home, '--replace')
    expect([twice.code, twice.err]).toEqual([1, expect.stringContaining('is that of an earlier restore')])
    await whileRunning(home, async () => {
      expect((await statusOf(home)).checks['history']).toContain('are not known: repeat them')
      expect(await exchange(home, 'bob', 'notes-api')).toBe('given')
      const running = await restore(home, '--replace', '--accept-loss')
      expect([running.code, running.err]).toEqual([7, expect.stringContaining('a daemon has the state folder')])
    })
    // The keys and the heads stay where they are: the log of the backup ends before what they know.
    const again = await restore(home, '--replace', '--log', join(home, 'nothing'))
    expect(again.err).toContain('holds no audit log')
    const goesOn = await restore(home, '--replace')
    expect([goesOn.code, goesOn.err]).toEqual([1, expect.stringContaining('and was not acknowledged')])
    const full = await restore(home, '--accept-loss')
    expect([full.code, full.err]).toEqual([1, expect.stringContaining('is not empty')])
    await rm(join(home, 'state/audit'), { recursive: true })
    const done = await restore(home, '--replace', '--accept-loss')
    expect([done.code, done.err]).toEqual([0, ''])
    expect(done.out).toMatch(/records \d+ to \d+ and those after them are lost/)
    expect(done.out).toContain('data keys: from the folder of the keys')
    await whileRunning(home, async () => {
      expect((await statusOf(home)).checks['audit']).toContain('was signed and is missing in the store')
      expect(await exchange(home, 'dave', 'ledger', before)).toBe('given')
    })
    await mkdir(join(home, 'state/.restoring'))
    // After a kill that had moved the log aside, it is found there.
    const aside = join(home, 'state/before-restore-99991231T000000Z')
    await mkdir(aside)
    await rename(join(home, 'state/audit'), join(aside, 'audit'))
    const found = await restore(home, '--replace')
    expect([found.code, found.err]).toEqual([1, expect.stringContaining(`in ${aside}/audit, and would be undone`)])
    await expect(whileRunning(home, () => Promise.resolve())).rejects.toThrow(/a restore into .* was not finished/)
    await rm(home, { recursive: true })
  })

  it.runIf(process.getuid?.() === 0)(
    'by root is all of the owner of the folder, and follows no link of that user',
    async () => {
      const home = await anEmptyHome('owned')
      await chown(home, OTHER_USER, OTHER_USER)
      for (const name of ['state', 'state/kek']) await chown(join(home, name), OTHER_USER, OTHER_USER)
      const victim = at('victim')
      await writeFile(victim, '', { mode: 0o644 })
      await symlink(victim, join(home, 'state/deputy.db.hold'))
      expect((await restore(home, '--replace', '--accept-loss')).code).toBe(1)
      const { mode, uid } = await stat(victim)
      expect([mode & 0o777, uid]).toEqual([0o644, 0])
      await rm(join(home, 'state/deputy.db.hold'))
      expect((await restore(home, '--accept-loss')).code).toBe(0)
      const names = await readdir(home, { recursive: true })
      const owners = await Promise.all(names.map(async (name) => (await lstat(join(home, name))).uid))
      expect([names.includes('state/deputy.db.hold'), ...new Set(owners)]).toEqual([true, OTHER_USER])
      await rm(home, { recursive: true })
      await rm(victim)
    },
  )
})
