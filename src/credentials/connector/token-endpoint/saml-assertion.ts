import type { KeyObject } from 'node:crypto'
import { SignedXml } from 'xml-crypto'
import { refuse } from '#errors'

/** What an assertion says. Times are ms since the epoch. */
export interface SamlAssertion {
  readonly id: string
  readonly issuer: string
  /** `NameID`, and what kind of name it is. */
  readonly subject: string
  readonly nameIdFormat: string
  /** The token endpoint that it is given to. */
  readonly recipient: string
  readonly audience: string
  /** How the subject has signed in; absent: nothing is said of that. */
  readonly authnContext?: string
  readonly attributes: Readonly<Record<string, string>>
  readonly issuedAt: number
  readonly expiresAt: number
}

const ENVELOPED = 'http://www.w3.org/2000/09/xmldsig#enveloped-signature'
const EXCLUSIVE = 'http://www.w3.org/2001/10/xml-exc-c14n#'
const RSA_SHA256 = 'http://www.w3.org/2001/04/xmldsig-more#rsa-sha256'
const SHA256 = 'http://www.w3.org/2001/04/xmlenc#sha256'

/** It begins a minute ago because clocks differ (ms). */
const BACKDATED_MS = 60_000

/** XML 1.0 section 2.2. */
const CARRIED = /^[\t\n\r\x20-\uD7FF\uE000-\uFFFD\u{10000}-\u{10FFFF}]*$/u

/** Markup, and what a parser would read as another character: line ends (XML 1.0 section 2.11; U+0085 and U+2028 are some in XML 1.1), white space in attributes (section 3.3.3). */
const REFERRED = /[&<>"'\t\n\r\u0085\u2028]/g

/** A template whose values can be nothing but text. @throws DeputyError `provider_refused` where XML cannot carry one */
const createWriter =
  (downstream: string) =>
  (parts: TemplateStringsArray, ...values: readonly string[]): string => {
    if (!values.every((each) => CARRIED.test(each)))
      throw refuse('provider_refused', {
        provider: downstream,
        problem: 'the assertion would hold a character that XML cannot carry',
      })
    return String.raw(
      { raw: parts },
      ...values.map((each) => each.replace(REFERRED, (one) => `&#x${one.charCodeAt(0).toString(16).toUpperCase()};`)),
    )
  }

const instant = (time: number): string => new Date(time).toISOString()

/**
 * A SAML 2.0 bearer assertion (RFC 7522 section 3, SAML core section 2) with an enveloped signature (section 5.4): RSA with SHA-256
 * over exclusive canonical XML. What is sent is what is written here: the signature is put in as text.
 * @param signer the certificate, PEM, goes along where there is one
 * @throws DeputyError `provider_refused` where XML cannot carry what it would say, or the name of the subject could be read as another
 */
export const signSamlAssertion = (
  assertion: SamlAssertion,
  {
    key,
    certificate,
    downstream,
  }: { readonly key: KeyObject; readonly certificate?: string; readonly downstream: string },
): string => {
  const xml = createWriter(downstream)
  const { id, issuer, subject, nameIdFormat, recipient, audience, authnContext, attributes } = assertion
  // Services trim names: this one would become another user's.
  if (subject !== subject.trim())
    throw refuse('provider_refused', {
      provider: downstream,
      problem: 'the name of the subject begins or ends with white space',
    })
  const [issuedAt, notBefore, notOnOrAfter] = [
    instant(assertion.issuedAt),
    instant(assertion.issuedAt - BACKDATED_MS),
    instant(assertion.expiresAt),
  ]
  const head = xml`<saml:Assertion xmlns:saml="urn:oasis:names:tc:SAML:2.0:assertion" Version="2.0" ID="${id}" IssueInstant="${issuedAt}"><saml:Issuer>${issuer}</saml:Issuer>`
  const rest = [
    xml`<saml:Subject><saml:NameID Format="${nameIdFormat}">${subject}</saml:NameID>`,
    xml`<saml:SubjectConfirmation Method="urn:oasis:names:tc:SAML:2.0:cm:bearer"><saml:SubjectConfirmationData NotOnOrAfter="${notOnOrAfter}" Recipient="${recipient}"/></saml:SubjectConfirmation></saml:Subject>`,
    xml`<saml:Conditions NotBefore="${notBefore}" NotOnOrAfter="${notOnOrAfter}"><saml:AudienceRestriction><saml:Audience>${audience}</saml:Audience></saml:AudienceRestriction></saml:Conditions>`,
    ...(authnContext === undefined
      ? []
      : [
          xml`<saml:AuthnStatement AuthnInstant="${issuedAt}"><saml:AuthnContext><saml:AuthnContextClassRef>${authnContext}</saml:AuthnContextClassRef></saml:AuthnContext></saml:AuthnStatement>`,
        ]),
    ...(Object.keys(attributes).length === 0
      ? []
      : [
          '<saml:AttributeStatement>',
          ...Object.entries(attributes).map(
            ([name, value]) =>
              xml`<saml:Attribute Name="${name}"><saml:AttributeValue>${value}</saml:AttributeValue></saml:Attribute>`,
          ),
          '</saml:AttributeStatement>',
        ]),
    '</saml:Assertion>',
  ].join('')
  const signature = new SignedXml({
    privateKey: key,
    signatureAlgorithm: RSA_SHA256,
    canonicalizationAlgorithm: EXCLUSIVE,
    ...(certificate === undefined ? {} : { publicCert: certificate }),
  })
  signature.addReference({ xpath: '/*', transforms: [ENVELOPED, EXCLUSIVE], digestAlgorithm: SHA256 })
  signature.computeSignature(head + rest, { prefix: 'ds' })
  return head + signature.getSignatureXml() + rest
}
