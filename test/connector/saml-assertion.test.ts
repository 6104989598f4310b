import { createPrivateKey } from 'node:crypto'
import {
  getVerifiedXml,
  parseDomFromString,
  parseXml2JsFromString,
  signXml,
  xpath,
} from '@node-saml/node-saml/lib/xml.js'
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { z } from 'zod'
import { signSamlAssertion, type SamlAssertion } from '../../src/credentials/connector/token-endpoint/saml-assertion.ts'
import { DeputyError } from '../../src/errors.ts'
import { aSamlSigner, createSamlGrant } from '../doubles/saml-bearer.ts'
import { findXmlsec, verifies } from '../peers/xmlsec.ts'

const signer = await aSamlSigner()
const stranger = await aSamlSigner()
const TOKEN_ENDPOINT = 'https://login.example/token'

/** An assertion as the connector has it made, with what a test changes. */
const signed = (over: Partial<SamlAssertion> = {}, by = signer): string =>
  signSamlAssertion(
    {
      id: '_0123',
      issuer: 'deputy',
      subject: 'alice',
      nameIdFormat: 'urn:oasis:names:tc:SAML:1.1:nameid-format:unspecified',
      recipient: TOKEN_ENDPOINT,
      audience: TOKEN_ENDPOINT,
      authnContext: 'urn:oasis:names:tc:SAML:2.0:ac:classes:unspecified',
      attributes: {},
      issuedAt: Date.now(),
      expiresAt: Date.now() + 300_000,
      ...over,
    },
    { key: createPrivateKey(by.key), downstream: 'orders' },
  )

const encoded = (xml: string): string => Buffer.from(xml).toString('base64url')
const grant = () =>
  createSamlGrant({
    certificate: signer.certificate,
    issuer: 'deputy',
    audience: TOKEN_ENDPOINT,
    tokenEndpoint: TOKEN_ENDPOINT,
  })

describe('a SAML assertion', () => {
  it('is RSA-SHA256 over exclusive canonical XML, by its ID, with the signature after the issuer; the certificate goes along where there is one', () => {
    const xml = signed()
    expect(xml).toMatch(
      /^<saml:Assertion [^>]*ID="_0123"[^>]*><saml:Issuer>deputy<\/saml:Issuer><ds:Signature [^>]*><ds:SignedInfo>/,
    )
    expect(xml.match(/(?<=Algorithm=")[^"]*|(?<=<ds:Reference URI=")[^"]*/g)).toEqual([
      'http://www.w3.org/2001/10/xml-exc-c14n#',
      'http://www.w3.org/2001/04/xmldsig-more#rsa-sha256',
      '#_0123',
      'http://www.w3.org/2000/09/xmldsig#enveloped-signature',
      'http://www.w3.org/2001/10/xml-exc-c14n#',
      'http://www.w3.org/2001/04/xmlenc#sha256',
    ])
    expect(xml).not.toContain('KeyInfo')
    const now = Date.now()
    const withCertificate = signSamlAssertion(
      {
        id: '_1',
        issuer: 'i',
        subject: 's',
        nameIdFormat: 'urn:f',
        recipient: 'r',
        audience: 'a',
        attributes: {},
        issuedAt: now,
        expiresAt: now + 1,
      },
      { key: createPrivateKey(signer.key), certificate: signer.certificate, downstream: 'orders' },
    )
    expect(/<ds:X509Certificate>([^<]*)</.exec(withCertificate)?.[1]?.replaceAll(/\s/g, '')).toBe(
      signer.certificate.replaceAll(/-----[A-Z ]*-----|\s/g, ''),
    )
  })

  // Each with what RFC 7522 says of it; the service is the double, which looks at nothing that is not signed.
  const wrapped = (into: (original: string, signature: string) => string): string => {
    const xml = signed()
    return into(xml, /<ds:Signature .*<\/ds:Signature>/.exec(xml)![0])
  }
  /** What Deputy never writes, signed by the right key all the same. */
  const resigned = (change: (unsigned: string) => string): string =>
    signXml(
      change(signed().replace(/<ds:Signature .*<\/ds:Signature>/, '')),
      '/*',
      { reference: '/*/*[1]', action: 'after' },
      { privateKey: signer.key, signatureAlgorithm: 'sha256', digestAlgorithm: 'sha256' },
    )
  const evil = (id: string, inside: string): string =>
    `<saml:Assertion xmlns:saml="urn:oasis:names:tc:SAML:2.0:assertion" Version="2.0" ID="${id}" IssueInstant="2026-01-01T00:00:00Z"><saml:Issuer>deputy</saml:Issuer>${inside}<saml:Subject><saml:NameID>mallory</saml:NameID></saml:Subject></saml:Assertion>`
  it.each([
    ['as it should be', () => encoded(signed()), { subject: 'alice' }],
    [
      'for another audience: section 3 (2)',
      () => encoded(signed({ audience: 'https://elsewhere.example' })),
      { problem: 'it is for another audience' },
    ],
    [
      'for another token endpoint: section 3 (5)',
      () => encoded(signed({ recipient: 'https://elsewhere.example/token' })),
      { problem: 'nothing confirms its subject for this token endpoint' },
    ],
    [
      'of another issuer: section 3 (1)',
      () => encoded(signed({ issuer: 'somebody' })),
      { problem: 'it is of another issuer' },
    ],
    [
      'that has expired: section 3 (6)',
      () => encoded(signed({ expiresAt: Date.now() - 1 })),
      { problem: 'it has expired' },
    ],
    [
      'that ends in a day: section 3 (6)',
      () => encoded(signed({ expiresAt: Date.now() + 86_400_000 })),
      { problem: 'its end is too far away' },
    ],
    [
      'from the future: SAML core section 2.5.1',
      () => encoded(signed({ issuedAt: Date.now() + 120_000 })),
      { problem: 'it is not valid yet' },
    ],
    [
      'signed by another: section 3 (9)',
      () => encoded(signed({}, stranger)),
      { problem: 'it is not signed by the key of its issuer' },
    ],
    [
      'that is not signed: section 3 (9)',
      () => encoded(signed().replace(/<ds:Signature .*<\/ds:Signature>/, '')),
      { problem: 'it is not signed by the key of its issuer' },
    ],
    [
      'that was changed: section 3 (9)',
      () => encoded(signed().replace('alice', 'mallory')),
      { problem: 'it is not signed by the key of its issuer' },
    ],
    [
      'without a bearer confirmation: section 3 (5)',
      () => encoded(resigned((xml) => xml.replace('cm:bearer', 'cm:sender-vouches'))),
      { problem: 'nothing confirms its subject for this token endpoint' },
    ],
    [
      'with two names: section 3 (3)',
      () =>
        encoded(
          resigned((xml) =>
            xml.replace('<saml:SubjectConfirmation ', '<saml:NameID>mallory</saml:NameID><saml:SubjectConfirmation '),
          ),
        ),
      { problem: '2 elements NameID' },
    ],
    [
      'without an audience: section 3 (2)',
      () => encoded(resigned((xml) => xml.replace(/<saml:AudienceRestriction>.*<\/saml:AudienceRestriction>/, ''))),
      { problem: '0 elements AudienceRestriction' },
    ],
    ['with padding: section 2.1', () => `${encoded(signed())}==`, { problem: 'it is not base64url' }],
    [
      'inside of another that has its signature',
      () => encoded(wrapped((xml, signature) => evil('_evil', signature + xml.replace(signature, '')))),
      { problem: "Invalid signature: Referenced node does not refer to it's parent element" },
    ],
    [
      'beside another of the same ID',
      () => encoded(wrapped((xml, signature) => evil('_0123', signature + xml.replace(signature, '')))),
      { problem: 'Invalid signature: ID cannot refer to more than one element' },
    ],
    [
      'inside of another, whole',
      () => encoded(wrapped((xml) => evil('_evil', xml))),
      { problem: 'it is not signed by the key of its issuer' },
    ],
    [
      'with a comment in the name, which canonical XML leaves out',
      () => encoded(signed({ subject: 'alice.mallory' }).replace('alice.', 'alice<!---->.')),
      { subject: 'alice.mallory' },
    ],
  ])('threat 12: one %s', async (_, assertion, said) => {
    expect(await grant()(assertion())).toEqual(said)
  })

  it('is taken once: RFC 7522 section 3 (6)', async () => {
    const redeem = grant()
    const xml = encoded(signed())
    expect([await redeem(xml), await redeem(xml), await redeem(encoded(signed({ id: '_other' })))]).toEqual([
      { subject: 'alice' },
      { problem: 'its ID was used before' },
      { subject: 'alice' },
    ])
  })
})

describe('what an assertion is made of', () => {
  const text = z
    .object({ _: z.string().optional() })
    .or(z.string())
    .transform((value) => (typeof value === 'string' ? value : (value._ ?? '')))
  const readSchema = z.strictObject({
    Assertion: z.object({
      Issuer: z.tuple([text]),
      Signature: z.tuple([z.unknown()]),
      Subject: z.tuple([
        z.strictObject({
          NameID: z.tuple([text]),
          SubjectConfirmation: z.tuple([
            z.object({ SubjectConfirmationData: z.tuple([z.object({ $: z.object({ Recipient: z.string() }) })]) }),
          ]),
        }),
      ]),
      Conditions: z.tuple([
        z.object({ AudienceRestriction: z.tuple([z.strictObject({ Audience: z.tuple([text]) })]) }),
      ]),
      AttributeStatement: z.tuple([
        z.strictObject({
          Attribute: z.tuple([z.object({ $: z.object({ Name: z.string() }), AttributeValue: z.tuple([text]) })]),
        }),
      ]),
    }),
  })
  /** XML 1.0 section 2.2, said another way. */
  const isCarried = (value: string): boolean =>
    Array.from(value).every((each) => {
      const point = each.codePointAt(0)!
      return (
        (point >= 32 || each === '\t' || each === '\n' || each === '\r') &&
        !(point >= 0xd800 && point <= 0xdfff) &&
        point !== 0xfffe &&
        point !== 0xffff
      )
    })
  const anyText = fc.oneof(
    { weight: 2, arbitrary: fc.string({ unit: 'grapheme', minLength: 1 }) },
    { weight: 1, arbitrary: fc.string({ unit: 'binary', minLength: 1 }) },
    {
      weight: 3,
      arbitrary: fc.string({
        minLength: 1,
        unit: fc.constantFrom(
          '<',
          '>',
          '&',
          '"',
          "'",
          ']]>',
          '<![CDATA[',
          '<!--',
          '-->',
          '<?x ?>',
          '</saml:NameID>',
          '<saml:NameID>mallory</saml:NameID>',
          '" Recipient="https://x',
          '&#x41;',
          '&amp;',
          '&lt;',
          '\r',
          '\n',
          '\r\n',
          '\t',
          '\u0085',
          '\u2028',
          ' ',
          '\u00A0',
          'ä',
          '😀',
          'a',
          '%',
          '${a}',
          '$&',
        ),
      }),
    },
    {
      weight: 1,
      arbitrary: fc.constantFrom(
        '\u0000',
        'a\u0001',
        '\uD800',
        'a\uDC00b',
        '\uFFFE',
        '\uFFFF',
        '\u001B[0m',
        ' alice',
        'alice\n',
        '\uFEFFalice',
        '',
      ),
    },
  )

  it('threat 12: is exactly the text that was given, in one assertion with one name, whoever reads it, or it is refused: nothing can be put into the XML', async () => {
    let made = 0
    await fc.assert(
      fc.asyncProperty(anyText, anyText, anyText, anyText, async (subject, issuer, place, attribute) => {
        let xml: string
        try {
          xml = signed({ subject, issuer, audience: place, recipient: place, attributes: { [attribute]: attribute } })
        } catch (error) {
          expect(error).toMatchObject({ name: 'DeputyError', code: 'provider_refused' })
          expect((error as DeputyError).message).not.toContain('alice')
          expect([subject, issuer, place, attribute].every(isCarried) && subject.trim() === subject).toBe(false)
          return
        }
        made += 1
        expect([subject, issuer, place, attribute].every(isCarried) && subject.trim() === subject).toBe(true)
        // sax, which shares nothing with what signs.
        const { Assertion: read } = readSchema.parse(await parseXml2JsFromString(xml))
        expect([
          read.Subject[0].NameID[0],
          read.Issuer[0],
          read.Conditions[0].AudienceRestriction[0].Audience[0],
          read.Subject[0].SubjectConfirmation[0].SubjectConfirmationData[0].$.Recipient,
          read.AttributeStatement[0].Attribute[0].$.Name,
          read.AttributeStatement[0].Attribute[0].AttributeValue[0],
        ]).toEqual([subject, issuer, place, place, attribute, attribute])
        const document = await parseDomFromString(xml)
        expect([
          xpath.selectElements(document, '//*[local-name()="Assertion"]').length,
          xpath.selectElements(document, '//*[local-name()="NameID"]').map((each) => each.textContent),
        ]).toEqual([1, [subject]])
        expect(getVerifiedXml(xml, document.documentElement, [signer.certificate])).not.toBeNull()
      }),
      { numRuns: 300 },
    )
    expect(made).toBeGreaterThan(50)
  })

  it.skipIf(!findXmlsec())(
    'is verified by xmlsec1 as well, whatever it holds, and refused by it when it was changed',
    async () => {
      const nasty = 'a\r\n\tb\r c\u0085d\u2028e <&>"\' ]]> ä 😀 &#xD; z'
      const xml = signed({
        subject: nasty,
        issuer: nasty,
        recipient: nasty,
        audience: nasty,
        attributes: { [nasty]: nasty },
      })
      expect([
        await verifies(xml, signer.certificate),
        await verifies(xml, stranger.certificate),
        await verifies(xml.replace('z</saml:NameID>', 'y</saml:NameID>'), signer.certificate),
      ]).toEqual([true, false, false])
    },
  )
})
