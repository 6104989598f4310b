/** Ways to break a configuration folder at random, the same for the same seed. */
import { mkdir, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { isMap, isScalar, parseDocument, stringify, visit, type Pair, type Scalar } from 'yaml'
import { createSystemRandom } from '../../src/clock.ts'
import { newKeyText } from '../../src/foundation/crypto/key-encryption-key.ts'
import { aCompany } from '../support/configuration.ts'
import type { Files } from '../support/daemon.ts'

/** Numbers from 0 to 1 that are the same for the same seed (mulberry32). */
const numbersFrom = (seed: number) => {
  let state = seed >>> 0
  return (): number => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

/** What a case draws from. */
export const createDraw = (seed: number) => {
  const next = numbersFrom(seed)
  const below = (count: number): number => Math.floor(next() * count)
  return { below, one: <T>(from: readonly T[]): T => from[below(from.length)]! }
}
type Draw = ReturnType<typeof createDraw>

const PROVIDER = {
  provider: 'notes',
  name: 'Notes',
  authorization_endpoint: 'https://notes.example/authorize',
  token_endpoint: 'https://notes.example/token',
  client_authentication: 'client_secret_basic',
}

/** A folder in order, with something of every kind of file. Every path in it is relative, and every port free. */
const goodFiles: Readonly<Record<string, string>> = Object.fromEntries(
  Object.entries({
    'deputy.yaml': {
      environment: 'test',
      issuer: 'http://127.0.0.1:7880',
      node: 'local',
      listen: {
        socket: 'run/deputy.sock',
        socket_mode: '0660',
        admin: 'run/admin.sock',
        proxy_socket: 'run/proxy.sock',
        tcp: '127.0.0.1:0',
        proxy: null,
        connect: '127.0.0.1:0',
        postgres: 'run/postgres',
        redis: 'run/redis',
      },
      state: 'state',
      keys: 'state/keys',
      policies: 'policies',
      cluster: { lease: '2s', skew: '500ms' },
      proxy: { answer: '5m', idle: '5m' },
      kek: { file: 'state/kek' },
      audit: { deadline: '2s', checkpoint_every: 100, files: [{ path: 'state/audit.jsonl' }] },
      cache: { entries: 100 },
      tokens: { lifetime: '5m', status_list: true, signing_key_lifetime: '30d' },
      limits: { body_bytes: 65_536, header_timeout: '5s', request_timeout: '10s', drain: '1s' },
      rates: { server: { requests: 100, per: '1s' } },
      network: { allow_loopback: true, allow_private: ['10.0.0.0/8'], timeout: '5s' },
      log: { level: 'fatal' },
    },
    ...aCompany({ issuer: 'http://127.0.0.1:9', uid: 1000 }),
    'providers/notes.yaml': PROVIDER,
    'downstreams/notes-api.yaml': {
      downstream: 'notes-api',
      credential: 'oauth_grant',
      provider: 'notes',
      client: { client_id: 'deputy', client_secret: { file: 'client-secret' } },
      scopes: { read: 'Read your notes' },
      tenants: ['acme'],
    },
  } satisfies Files).map(([path, content]) => [path, typeof content === 'string' ? content : stringify(content)]),
)

const WRONG: readonly unknown[] = [
  null,
  true,
  0,
  -1,
  432,
  3.5,
  1e21,
  '',
  ' ',
  'no',
  '007',
  '30',
  '0s',
  '999999999d',
  '0660',
  '__proto__',
  '\u0000',
  '${HOME}',
  'x'.repeat(300),
  [],
  ['a', 1],
  {},
  { file: 'nowhere' },
  { __proto__: null, constructor: 1 },
]
/** What the kernel and Node may still refuse of a setting that has the right form. No path leaves the folder of the case. */
const PLAUSIBLE: readonly unknown[] = [
  ['0s', '1ms', '24d', '24855m', '25d', '999999999d'],
  [1, 2, 1024, 2 ** 31, 2 ** 53 - 1],
  ['0000', '0777', '0606', '0060'],
  ['.', 'state', 'run', 'deputy.yaml', 'state/kek', 'policies/access', 'a/b/c', 'a\u0000b'],
  ['x'.repeat(60), 'é'.repeat(60)],
  ['127.0.0.1:0', '[::1]:0', 'localhost:0', '192.0.2.1:0', '127.0.0.1:65536', '127.0.0.1:7880'],
  [null, true, false, [], { env: 'NOWHERE' }, { file: 'state/kek' }, { file: 'run' }],
].flat()
const NAMES = [
  '__proto__',
  'constructor',
  'tenant',
  'server',
  'downstream',
  'file',
  'env',
  'issuers',
  'Tenant',
  '',
  '0',
]

const changed = (text: string, change: (pairs: Pair<Scalar>[]) => void): string => {
  const document = parseDocument(text)
  const pairs: Pair<Scalar>[] = []
  visit(document, { Pair: (_, pair) => void (isScalar(pair.key) && pairs.push(pair as Pair<Scalar>)) })
  if (document.errors.length > 0 || !isMap(document.contents) || pairs.length === 0) return text
  change(pairs)
  return document.toString()
}

/** Ways to break the text of a file. */
const TEXTS: readonly ((text: string, draw: Draw) => string | Buffer)[] = [
  (text, { below }) =>
    text
      .split('\n')
      .toSpliced(below(text.split('\n').length), 1)
      .join('\n'),
  (text, { below }) => {
    const lines = text.split('\n')
    const at = below(lines.length)
    return lines.toSpliced(at, 0, lines[at]!).join('\n')
  },
  (text, { below }) => text.slice(0, below(text.length)),
  (text, { below }) => {
    const bytes = Buffer.from(text)
    for (let count = 1 + below(4); count > 0; count -= 1) bytes[below(bytes.length)] = below(256)
    return bytes
  },
  (text, { below, one }) => {
    const at = below(text.length)
    return `${text.slice(0, at)}${one(['\t', '\ufeff', '\u2028', '\u0000', '---\n', '&a ', '*a', '!!js ', '{', '"', ': ', '- ', '%', '\n'])}${text.slice(at)}`
  },
  (text, { one }) =>
    changed(text, (pairs) => {
      const pair = one(pairs)
      pair.value = parseDocument(stringify(one(WRONG))).contents
    }),
  (text, { one }) =>
    changed(text, (pairs) => {
      const [left, right] = [one(pairs), one(pairs)]
      ;[left.value, right.value] = [right.value, left.value]
    }),
  (text, { one, below }) =>
    changed(text, (pairs) => {
      const { key } = one(pairs)
      const name = String(key.value)
      key.value = below(2) === 0 ? one(NAMES) : name.slice(0, -1)
    }),
  (text, { one }) =>
    changed(text, (pairs) => {
      one(pairs).value = parseDocument(stringify(one(PLAUSIBLE))).contents
    }),
  (text) => `${text}---\n${text}`,
  () => '',
]

/** The one whose results `check` often passes. */
const PLAUSIBLE_TEXT = 8

const inHome = async (home: string, path: string, content: string | Buffer): Promise<void> => {
  await mkdir(dirname(join(home, path)), { recursive: true, mode: 0o700 })
  await writeFile(join(home, path), content, { mode: 0o600 })
}

/** Ways to break a folder. */
const FOLDERS: readonly ((home: string, path: string, draw: Draw) => Promise<void>)[] = [
  (home, path) => rm(join(home, path)),
  (home, path, { one }) => symlink('nowhere', join(home, dirname(path), one(['.#x.yaml', 'x.yaml', 'x.cedar']))),
  async (home, path) => {
    await rm(join(home, path))
    await symlink(path, join(home, path))
  },
  async (home, path) => {
    await rm(join(home, path))
    await mkdir(join(home, path))
  },
  (home, path, { one }) =>
    rename(join(home, path), join(home, one(['tenants', 'servers', 'downstreams', 'providers']), 'x.yaml')),
  async (home, path) => {
    const folder = join(home, dirname(path))
    if (folder === home) return
    await rm(folder, { recursive: true })
    await writeFile(folder, '')
  },
]

/** Makes the folder of a case. @returns what was done to it, for whoever reads a failure */
export const breakFolder = async (home: string, draw: Draw): Promise<string[]> => {
  for (const [path, text] of Object.entries(goodFiles)) await inHome(home, path, text)
  await inHome(home, 'client-secret', 'secret')
  await inHome(home, 'state/kek', newKeyText(createSystemRandom()))
  const done: string[] = []
  for (let count = 1 + draw.below(2); count > 0; count -= 1) {
    // Every second time the settings: what serve does rests on them.
    const path = draw.below(2) === 0 ? 'deputy.yaml' : draw.one(Object.keys(goodFiles))
    try {
      if (draw.below(8) > 0) {
        const at = draw.below(2) === 0 ? PLAUSIBLE_TEXT : draw.below(TEXTS.length)
        await inHome(home, path, TEXTS[at]!(await readFile(join(home, path), 'utf8'), draw))
        done.push(`text ${at} of ${path}`)
      } else {
        const at = draw.below(FOLDERS.length)
        await FOLDERS[at]!(home, path, draw)
        done.push(`folder ${at} of ${path}`)
      }
    } catch {
      // What was removed before cannot be broken further.
    }
  }
  return done
}
