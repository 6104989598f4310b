import { expect, it } from 'vitest'
import type { DeputyError } from '../../src/errors.ts'
import { isForDeputy } from '../../src/flows/injected-request/headers.ts'
import { readCaller, readEvidence } from '../../src/listeners/http-proxy/caller.ts'

const basic = (secret: string): string => `Basic ${Buffer.from(`notes:${secret}`).toString('base64')}`
const request = (...rawHeaders: string[]) => ({ rawHeaders }) as Parameters<typeof readEvidence>[0]
const codeOf = (work: () => unknown): string => {
  try {
    work()
    return 'none'
  } catch (error) {
    return (error as DeputyError).code
  }
}

it('fault 88: a client that sends no Proxy-Authorization to an origin says who it is in a header of Deputy, which stays here', () => {
  const evidence = readEvidence(request('Deputy-Authorization', basic('s3cret')), undefined)
  expect([evidence.clientId, evidence.clientSecret?.reveal()]).toEqual(['notes', 's3cret'])
  expect(['deputy-authorization', 'proxy-authorization', 'authorization'].map(isForDeputy)).toEqual([true, true, false])
  const both = (other: string) => request('Proxy-Authorization', basic('a'), 'Deputy-Authorization', basic(other))
  expect(readEvidence(both('a'), undefined).clientId).toBe('notes')
  expect(codeOf(() => readEvidence(both('b'), undefined))).toBe('malformed_request')
  const twice = request('Deputy-Authorization', basic('a'), 'Deputy-Authorization', basic('a'))
  expect(codeOf(() => readEvidence(twice, undefined))).toBe('parameter_repeated')
  // Of a tunnel and a request in it, the request's own counts.
  const { evidence: inner } = readCaller(
    request('Deputy-Authorization', basic('inner'), 'Deputy-On-Behalf-Of', 'server'),
    request('Proxy-Authorization', basic('outer')),
    undefined,
    () => undefined,
  )
  expect(inner.clientSecret?.reveal()).toBe('inner')
})
