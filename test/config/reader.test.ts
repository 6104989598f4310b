import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { loadOnThread } from '../../src/config/reader.ts'

describe('the thread that reads the configuration', () => {
  let home: string
  const options = () => ({ home, shippedProviders: join(home, 'shipped'), generation: 1 })
  const tenant = (text: string) => writeFile(join(home, 'tenants/acme.yaml'), text, { mode: 0o600 })
  const read = async () => {
    const { snapshot, problems } = await loadOnThread(options())
    return snapshot === undefined ? problems.map(({ file }) => file) : [...snapshot.tenants.keys()]
  }
  beforeAll(async () => {
    home = await mkdtemp(join(tmpdir(), 'deputy-reader-'))
    await mkdir(join(home, 'tenants'), { mode: 0o700 })
    await writeFile(join(home, 'deputy.yaml'), 'environment: test\n', { mode: 0o600 })
  })
  afterAll(() => rm(home, { recursive: true }))

  it('is kept for the next reading, which finds what has changed; answers are in the order of the questions', async () => {
    await tenant('tenant: acme')
    expect(await read()).toEqual(['acme'])
    await tenant('tenant: globex')
    expect(await read()).toEqual(['globex'])
    await tenant('tenant: [')
    expect(await read()).toEqual(['tenants/acme.yaml'])
    await tenant('tenant: acme')
    const elsewhere = { ...options(), home: join(home, 'nothing') }
    const [one, other, again] = await Promise.all([read(), loadOnThread(elsewhere), read()])
    expect([one, other.snapshot, again]).toEqual([['acme'], undefined, ['acme']])
  })

  it('that ends in the middle is told, and the next reading has another one', async () => {
    const unreadable = { ...options(), home: undefined as unknown as string }
    await expect(loadOnThread(unreadable)).rejects.toThrow()
    expect(await read()).toEqual(['acme'])
  })
})
