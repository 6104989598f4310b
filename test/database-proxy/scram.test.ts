import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Secret } from '../../src/foundation/crypto/secret.ts'
import { createScram } from '../../src/listeners/database-proxy/postgres/scram.ts'
import { parseParameters } from '../../src/listeners/database-proxy/postgres/startup.ts'

/** RFC 7677 section 3. */
const NONCE = 'rOprNGfwEbeRWgbNEkqO'
const SERVER_FIRST = 'r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096'
const aLogin = (nonce = NONCE) => createScram({ username: 'user', password: new Secret('pencil'), nonce })

describe('SCRAM-SHA-256', () => {
  it('says what RFC 7677 says, and believes a server that knows the password', async () => {
    const scram = aLogin()
    expect(scram.first()).toBe('n,,n=user,r=rOprNGfwEbeRWgbNEkqO')
    expect(await scram.final(SERVER_FIRST)).toBe(
      'c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=',
    )
    expect(() => {
      scram.verify('v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=')
    }).not.toThrow()
    for (const wrong of ['v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G5=', 'v=', 'e=other-error', ''])
      expect(() => {
        scram.verify(wrong)
      }).toThrow('knows the password')
  })

  it('believes no server that has not shown anything', () => {
    expect(() => {
      aLogin().verify('v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=')
    }).toThrow('knows the password')
  })

  it("refuses another's nonce, our own sent back, extensions, and counts that give the password away or take for ever", async () => {
    for (const bad of [
      SERVER_FIRST.replace('rOpr', 'xOpr'),
      `r=${NONCE},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096`,
      `m=x,${SERVER_FIRST}`,
      SERVER_FIRST.replace('4096', '1'),
      SERVER_FIRST.replace('4096', '4095'),
      SERVER_FIRST.replace('4096', '9999999'),
      SERVER_FIRST.replace('i=4096', 'i=-4096'),
      SERVER_FIRST.replace('s=W22ZaJ0SNY7soEsUEjb6gQ==', 's='),
      '',
      'r',
      ',,,',
    ])
      await expect(aLogin().final(bad)).rejects.toThrow(/nonce|salt|iteration/)
  })
})

describe('the parameters of a startup message', () => {
  const encoded = (pairs: readonly (readonly [string, string])[]): Buffer =>
    Buffer.from(`${pairs.map(([name, value]) => `${name}\0${value}\0`).join('')}\0`)
  const word = fc.string({ unit: 'binary', maxLength: 20 }).map((text) => text.replaceAll('\0', '').toWellFormed())

  it('are read as they were written', () => {
    fc.assert(
      fc.property(
        fc.dictionary(
          word.filter((name) => name !== ''),
          word,
        ),
        (given) => {
          expect([...parseParameters(encoded(Object.entries(given)))]).toEqual(Object.entries(given))
        },
      ),
    )
  })
  it('are refused when a name is there twice, or something is missing', () => {
    for (const bad of [
      encoded([
        ['user', 'a'],
        ['user', 'b'],
      ]),
      encoded([['', 'a']]),
      Buffer.from('user\0a\0'),
      Buffer.from('user\0'),
      Buffer.from('user'),
      Buffer.from([0xff, 0, 0, 0]),
      Buffer.from('user\0a\0\0x\0'),
    ])
      expect(() => parseParameters(bad)).toThrow(/startup message/)
  })
  it('are refused or read, whatever comes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        try {
          parseParameters(bytes)
        } catch (error) {
          expect((error as Error).name).toBe('BrokenConnection')
        }
      }),
    )
  })
})
