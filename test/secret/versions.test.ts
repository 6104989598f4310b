import { join } from 'node:path'
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { downstreamSchema } from '../../src/config/downstream.ts'
import { Secret } from '../../src/foundation/crypto/secret.ts'
import { refuse } from '../../src/errors.ts'
import { createSecretVersions } from '../../src/credentials/secret/versions.ts'
import { openSqliteStore } from '../../src/foundation/store/sqlite/open.ts'
import type { Store } from '../../src/foundation/store/store.ts'
import { aFolder } from '../support/audit.ts'

const downstreamOf = (backend: string) =>
  downstreamSchema.parse({ downstream: 'd', credential: 'static', secret: 's', backend })

it('fault 8: a version number that comes again for another value is another version', async () => {
  let [value, isAway] = ['one', false]
  const versions = createSecretVersions({
    embedded: () => Promise.resolve({ sealed: Buffer.from(value) }),
    read: () =>
      isAway
        ? Promise.reject(refuse('secret_backend_unavailable', { backend: 'vault', problem: 'sealed' }))
        : Promise.resolve({ version: '1', value: new Secret(value) }),
  })
  for (const backend of ['vault', 'embedded']) {
    value = 'one'
    const first = await versions(downstreamOf(backend), 'acme')
    expect(await versions(downstreamOf(backend), 'acme')).toBe(first)
    value = 'two'
    expect(await versions(downstreamOf(backend), 'acme')).not.toBe(first)
  }
  const last = await versions(downstreamOf('vault'), 'acme')
  isAway = true
  expect(await versions(downstreamOf('vault'), 'acme')).toBe(last)
  expect(last).not.toContain('two')
})

describe('fault 8: a version that is remembered while nothing is written', () => {
  const secret = (version: number) => ({
    tenant: 'acme',
    name: 's',
    version,
    sealed: Buffer.from(`value ${version}`),
    createdAt: 1,
    token: null,
  })
  const versionsOf = (store: Store) => {
    let asked = 0
    const versions = createSecretVersions({
      embedded: (tenant, name) => {
        asked += 1
        return store.secrets.find(tenant, name, 'current')
      },
      writes: store.secrets.writes,
      read: () => Promise.reject(new Error('it is embedded')),
    })
    return { now: () => versions(downstreamOf('embedded'), 'acme'), asked: () => asked }
  }

  it('is asked for once, and again after each kind of write', async () => {
    const store = await openSqliteStore({ path: join(await aFolder(), 'deputy.db') })
    const { now, asked } = versionsOf(store)
    const seen = new Set([await now(), await now()])
    expect([seen.size, asked()]).toEqual([1, 1])
    const { secrets } = store
    const writes: [string, () => Promise<unknown>][] = [
      ['putCurrent', () => secrets.putCurrent(secret(1))],
      ['putCurrent again', () => secrets.putCurrent(secret(2))],
      ['promote', () => secrets.putPending(secret(3)).then(() => secrets.promote('acme', 's', 3, 2))],
      ['step back', () => secrets.promote('acme', 's', 2, 3)],
      ['remove', () => secrets.remove({ tenant: 'acme' })],
    ]
    let before = await now()
    for (const [name, write] of writes) {
      await write()
      const after = await now()
      expect([name, after]).not.toEqual([name, before])
      before = after
    }
    await store.close()
  })

  it('is never older than a write that has returned, whatever is read beside it', async () => {
    const step = fc.constantFrom('begin', 'commit', 'end', 'ask', 'answer')
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 20 }), async (steps) => {
        let [value, writes, isWriting] = [0, 0, false]
        const reads: (() => void)[] = []
        const embedded = () => {
          const stored = { sealed: Buffer.from(String(value)) }
          return new Promise<typeof stored>((resolve) => {
            reads.push(() => {
              resolve(stored)
            })
          })
        }
        const read = () => Promise.reject(new Error('it is embedded'))
        const versions = createSecretVersions({ embedded, writes: () => writes, read })
        const ask = () => versions(downstreamOf('embedded'), 'acme')
        for (const each of [...steps, 'end']) {
          if (each === 'begin' && !isWriting) [writes, isWriting] = [writes + 1, true]
          else if (each === 'commit' && isWriting) value += 1
          else if (each === 'end' && isWriting) [writes, isWriting] = [writes + 1, false]
          else if (each === 'ask') void ask()
          else if (each === 'answer') reads.shift()?.()
          await new Promise(setImmediate)
        }
        const last = ask()
        while (reads.length > 0) reads.pop()!()
        const now = createSecretVersions({
          embedded: () => Promise.resolve({ sealed: Buffer.from(String(value)) }),
          read,
        })
        expect(await last).toBe(await now(downstreamOf('embedded'), 'acme'))
      }),
      { numRuns: 300 },
    )
  })
})
