import { describe, expect, it, onTestFinished } from 'vitest'
import { Secret } from '../../src/foundation/crypto/secret.ts'
import type { AskingRotator } from '../../src/flows/rotation/rotator.ts'
import { isFresh, isSameSecret } from '../../src/credentials/secret/meaning.ts'
import { aVaultStaticRole } from './places.ts'

const secret = (text: string): Secret => new Secret(text)

describe('secrets by what they mean', () => {
  it('fault 48: white space and the order of members say nothing', () => {
    for (const [one, other] of [
      ['{"username":"app","password":"p"}', '{ "password": "p",\n "username": "app" }\n'],
      ['key', ' key\n'],
      ['[1, {"a": 1, "b": 2}]', '[1,{"b":2,"a":1}]'],
    ] as const)
      expect([isSameSecret(secret(one), secret(other)), isFresh(secret(one), secret(other))]).toEqual([true, false])
    for (const [one, other] of [
      ['{"password":"p"}', '{"password":"q"}'],
      ['key', 'Key'],
      ['["a","b"]', '["b","a"]'],
    ] as const)
      expect(isSameSecret(secret(one), secret(other))).toBe(false)
  })

  it('fault 48: a login of another account with the same password is not fresh', () => {
    expect(
      isFresh(secret('{"username":"b","password":"p"}'), secret('{"username":"a","password":"p","host":"h"}')),
    ).toBe(false)
  })
})

describe('a static role of Vault whose copy is written in another way', () => {
  const copies = {
    'with white space': '{\n  "password": "the-first",\n  "username": "app"\n}\n',
    'with another member': '{"username":"app","password":"the-first","host":"db.internal"}',
    'that is outdated': '{"username":"app","password":"long-ago"}',
  }
  for (const [how, copy] of Object.entries(copies))
    it(`fault 48: ${how}: the password that leaked is changed, once`, async () => {
      const place = await aVaultStaticRole()
      onTestFinished(() => place.close())
      const rotator = place.rotator as AskingRotator
      const known = [secret(copy), await rotator.known()]
      const next = await rotator.apply(known)
      expect(known.some((each) => !isFresh(next, each))).toBe(false)
      expect(await rotator.login(place.current)).toBe('refused')
      // Killed before it was written down: the same one, and no third.
      expect((await rotator.apply(known)).reveal()).toBe(next.reveal())
      expect(await rotator.login(next)).toBe('works')
    })
})
