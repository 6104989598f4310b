import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { configurationFiles } from '../../src/daemon/backup/configuration-files.ts'
import { layoutOf } from '../../src/daemon/backup/layout.ts'
import { Secret } from '../../src/foundation/crypto/secret.ts'

it('neither a large archive with the key-encryption key nor a copy of a data key is in a backup', async () => {
  const home = await mkdtemp(join(tmpdir(), 'deputy-configuration-'))
  const at = (name: string): string => join(home, name)
  const kek = 'a-key-encryption-key-of-this-test-0123456789'
  for (const folder of ['state', 'state.copy/keys']) await mkdir(at(folder), { recursive: true })
  await writeFile(at('state/kek'), `${kek}\n`)
  await writeFile(at('deputy.yaml'), '')
  // The key lies across the end of a piece of a megabyte.
  await writeFile(
    at('home.tar'),
    Buffer.concat([Buffer.alloc(9 * 1_048_576 - 7, 1), Buffer.from(kek), Buffer.alloc(9)]),
  )
  await writeFile(at('large'), Buffer.alloc(9 * 1_048_576, 1))
  const wrapped = { key: '0123456789abcdef', kek: 'k', wrapped: Buffer.alloc(40).toString('base64') }
  await writeFile(at('state.copy/keys/acme.key'), JSON.stringify(wrapped))
  await writeFile(at('public.key'), '-----BEGIN PUBLIC KEY-----')
  const { sources, leftOut } = await configurationFiles({
    layout: layoutOf(home, { state: 'state' }),
    settings: { kek: { file: 'state/kek' }, kek_earlier: [] },
    environment: {},
    files: [],
    passphrase: new Secret('the passphrase of this backup'),
  })
  const names: string[] = []
  for await (const { path, bytes, content } of sources) {
    let read = 0
    for await (const piece of content) read += piece.length
    expect(read).toBe(bytes)
    names.push(path)
  }
  expect(names).toEqual(['configuration/deputy.yaml', 'configuration/large', 'configuration/public.key'])
  expect(leftOut).toEqual([
    'home.tar: it holds the key-encryption key, or the key of the backup',
    'state.copy/keys/acme.key: a data key',
  ])
  await rm(home, { recursive: true })
})
