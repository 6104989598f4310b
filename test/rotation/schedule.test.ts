import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { covers, overlaps, rotationPolicySchema, type RotationPolicy } from '../../src/config/rotation-policy.ts'
import { inWindow, nextRotation, plannedRotations } from '../../src/flows/rotation/schedule.ts'

const SECRET = { tenant: 'acme', backend: 'embedded', secret: 'database' }
const policyOf = (when: object, secrets: object = {}): RotationPolicy =>
  rotationPolicySchema.parse({
    rotation: 'p',
    owner: 'o',
    secrets: { name: 'database', ...secrets },
    when,
    how: { rotator: 'redis', host: 'h', user: 'u', admin: { secret: 'a' } },
  })
const at = (text: string): number => Date.parse(text)
const next = (when: object, rotatedAt: string): string | null => {
  const moment = nextRotation(policyOf(when).when, SECRET, at(rotatedAt))
  return moment === null ? null : new Date(moment).toISOString()
}

describe('when a secret rotates next', () => {
  it('is so long after the last time, or by a cron pattern in its time zone', () => {
    expect(next({ every: '30d' }, '2026-01-01T00:00:00Z')).toBe('2026-01-31T00:00:00.000Z')
    // Summer time in Berlin begins on 2026-03-29.
    expect(next({ cron: '0 3 * * *', zone: 'Europe/Berlin' }, '2026-03-28T12:00:00Z')).toBe('2026-03-29T01:00:00.000Z')
    expect(next({ cron: '0 3 * * *', zone: 'Europe/Berlin' }, '2026-03-27T12:00:00Z')).toBe('2026-03-28T02:00:00.000Z')
    expect(next({ on: ['leak'] }, '2026-01-01T00:00:00Z')).toBeNull()
  })

  it('waits for a window, over midnight too', () => {
    const windows = [{ days: ['sat'], from: '22:00', to: '02:00', zone: 'UTC' }]
    // 2026-01-31 is a Saturday.
    expect(next({ every: '30d', windows }, '2026-01-01T12:00:00Z')).toBe('2026-01-31T22:00:00.000Z')
    expect(next({ every: '30d', windows }, '2026-01-01T23:30:00Z')).toBe('2026-01-31T23:30:00.000Z')
    expect(next({ every: '30d', windows }, '2026-01-02T01:30:00Z')).toBe('2026-02-01T01:30:00.000Z')
    expect(next({ every: '30d', windows }, '2026-01-02T02:00:00Z')).toBe('2026-02-07T22:00:00.000Z')
  })

  it('is never later than the maximum age, windows or not', () => {
    expect(
      next(
        { every: '30d', max_age: '31d', windows: [{ days: ['fri'], from: '10:00', to: '11:00' }] },
        '2026-01-01T12:00:00Z',
      ),
    ).toBe('2026-02-01T12:00:00.000Z')
    expect(next({ max_age: '10d' }, '2026-01-01T00:00:00Z')).toBe('2026-01-11T00:00:00.000Z')
  })

  it('spreads the secrets of a policy, each always at the same place', () => {
    const { when } = policyOf({ every: '1d', jitter: '1h' })
    const moments = Array.from({ length: 500 }, (_, index) =>
      nextRotation(when, { ...SECRET, secret: `s-${index}` }, 0)!,
    )
    expect(moments).toEqual(
      Array.from({ length: 500 }, (_, index) => nextRotation(when, { ...SECRET, secret: `s-${index}` }, 0)),
    )
    const quarters = Map.groupBy(moments, (moment) => Math.floor((moment - 86_400_000) / 900_000))
    expect([...quarters.keys()].toSorted((a, b) => a - b)).toEqual([0, 1, 2, 3])
    for (const each of quarters.values()) expect(each.length).toBeGreaterThan(80)
  })

  it('always comes after the last time, and a plan is in order and ends', () => {
    const whens = fc.oneof(
      fc.record({
        every: fc.integer({ min: 1, max: 400 }).map((days) => `${days}d`),
        jitter: fc.constantFrom('0s', '2h'),
      }),
      fc.record({
        cron: fc.constantFrom('0 3 * * 1', '*/15 * * * *', '0 0 29 2 *', '30 2 * * *'),
        zone: fc.constantFrom('UTC', 'Europe/Berlin', 'America/New_York'),
      }),
    )
    fc.assert(
      fc.property(whens, fc.integer({ min: at('2020-01-01'), max: at('2035-01-01') }), (when, rotatedAt) => {
        const parsed = policyOf(when).when
        const first = nextRotation(parsed, SECRET, rotatedAt)
        expect(first).toBeGreaterThan(rotatedAt)
        const planned = plannedRotations(parsed, SECRET, { from: first, until: rotatedAt + 90 * 86_400_000, limit: 50 })
        expect(planned).toEqual(planned.toSorted((a, b) => a - b))
        expect(new Set(planned).size).toBe(planned.length)
      }),
      { numRuns: 60 },
    )
  })

  it('a moment that a window was waited for is in it, and no earlier one was', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: at('2026-01-01'), max: at('2027-01-01') }),
        fc.subarray(['mon', 'wed', 'sun'] as const, { minLength: 1 }),
        fc.constantFrom(['01:00', '05:30'], ['22:00', '02:00']),
        (from, days, [begin, end]) => {
          const windows = policyOf({ every: '1d', windows: [{ days, from: begin, to: end }] }).when.windows
          const moment = inWindow(from, windows)
          expect(moment).toBeGreaterThanOrEqual(from)
          expect(inWindow(moment, windows)).toBe(moment)
          if (moment - 60_000 > from) expect(inWindow(moment - 60_000, windows)).toBe(moment)
        },
      ),
      { numRuns: 100 },
    )
  })
})

describe('a rotation policy', () => {
  it('covers secrets by backend, tenant and name', () => {
    const policy = policyOf({ every: '1d' }, { tenants: ['acme'], name: 'db-*-main.v*' })
    const of = (given: object): boolean =>
      covers(policy, { tenant: 'acme', backend: 'embedded', secret: 'db-eu-main.v2', ...given })
    expect([
      of({}),
      of({ tenant: 'globex' }),
      of({ backend: 'vault' }),
      of({ secret: 'db-main.v' }),
      of({ secret: 'db-eu-mainXv2' }),
      of({ secret: 'xdb-eu-main.v2' }),
    ]).toEqual([true, false, false, false, false, false])
  })

  it('overlaps another exactly if some secret is covered by both', () => {
    const name = fc.stringMatching(/^[ab*]{1,4}$/)
    fc.assert(
      fc.property(name, name, (one, other) => {
        const [left, right] = [policyOf({ every: '1d' }, { name: one }), policyOf({ every: '1d' }, { name: other })]
        // Every name over {a, b} that could tell: up to the length of both patterns.
        const names = Array.from({ length: 8 }, (_, length) =>
          Array.from({ length: 2 ** (length + 1) }, (_value, bits) =>
            Array.from({ length: length + 1 }, (_char, bit) => ((bits >> bit) & 1 ? 'b' : 'a')).join(''),
          ),
        ).flat()
        const both = names.some((each) =>
          [left, right].every((policy) => covers(policy, { tenant: 'acme', backend: 'embedded', secret: each })),
        )
        expect(overlaps(left, right)).toBe(both)
      }),
      { numRuns: 300 },
    )
    expect(overlaps(policyOf({ every: '1d' }, { tenants: ['a'] }), policyOf({ every: '1d' }, { tenants: ['b'] }))).toBe(
      false,
    )
    expect(overlaps(policyOf({ every: '1d' }, { tenants: ['a'] }), policyOf({ every: '1d' }))).toBe(true)
  })

  it('threat 28: with a mistake is refused with what is wrong', () => {
    const problem = (given: object): string => {
      const parsed = rotationPolicySchema.safeParse({
        rotation: 'p',
        owner: 'o',
        secrets: { name: 'x' },
        when: { every: '1d' },
        how: { rotator: 'redis', host: 'h', user: 'u', admin: { secret: 'a' } },
        ...given,
      })
      return parsed.success ? 'accepted' : parsed.error.issues.map(({ message }) => message).join('; ')
    }
    expect(problem({})).toBe('accepted')
    expect(problem({ when: {} })).toMatch(/say when/)
    expect(problem({ when: { every: '1d', cron: '0 3 * * *' } })).toMatch(/exclude/)
    expect(problem({ when: { cron: '61 3 * * *' } })).toMatch(/cron pattern/)
    expect(problem({ when: { cron: '0 3 * * *', zone: 'Mars/Olympus' } })).toMatch(/time zone/)
    expect(problem({ when: { every: '1d', windows: [{ from: '10:00', to: '10:00' }] } })).toMatch(/empty/)
    expect(
      problem({
        how: { rotator: 'postgres', host: 'h', admin: { secret: 'a' }, strategy: 'alternating', roles: ['one'] },
      }),
    ).toMatch(/two different ones/)
    expect(
      problem({
        how: { rotator: 'postgres', host: 'h', admin: { secret: 'a' }, strategy: 'single', roles: ['x"; drop role y'] },
      }),
    ).toMatch(/name of a role/)
    expect(problem({ how: { rotator: 'guess' } })).not.toBe('accepted')
    expect(problem({ graze: '1h' })).not.toBe('accepted')
  })
})
