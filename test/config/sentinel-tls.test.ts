import { describe, expect, it } from 'vitest'
import { sentinelWarnings } from '../../src/config/sentinel-tls.ts'
import { settingsSchema } from '../../src/config/settings.ts'
import { readFolder } from '../support/check.ts'

const nodes = ['sentinel.internal:26379']
const warned = (redis: object | null): number =>
  sentinelWarnings(settingsSchema.parse({ environment: 'test', cache: { redis } })).length

describe('sentinels beside a Redis with TLS', () => {
  it.each([
    [null, 0],
    [{ nodes, tls: true }, 0],
    [{ nodes, mode: 'cluster', tls: true }, 0],
    [{ nodes, mode: 'sentinel', tls: false }, 0],
    [{ nodes, mode: 'sentinel' }, 1],
    [{ nodes, mode: 'sentinel', sentinel: {} }, 0],
    [{ nodes, mode: 'sentinel', tls: true, sentinel: { tls: { ca: 'ca.pem' } } }, 0],
    [{ nodes, mode: 'sentinel', tls: true }, 1],
    [{ nodes, mode: 'sentinel', tls: { ca: 'ca.pem' }, sentinel: { tls: false } }, 1],
  ])('fault 98: cache.redis %j has %i warnings', (redis, count) => {
    expect(warned(redis)).toBe(count)
  })

  it('fault 98: deputy check warns', async () => {
    const { warnings } = await readFolder({
      'deputy.yaml': { environment: 'test', cache: { redis: { nodes, mode: 'sentinel', tls: true } } },
    })
    expect(warnings.map(({ message }) => message)).toContainEqual(expect.stringMatching(/sentinels without/))
  })
})
