/**
 * The grant of an authorization server for SAML 2.0 bearer assertions, strict about what RFC 7522 says:
 * - section 2.1: base64url of one assertion, without padding;
 * - section 3 (1) `Issuer`, and (2) one `Audience`, compared as text; (3) a `Subject` with one name;
 * - section 3 (4) to (6): the end of the conditions and of a bearer confirmation, its `Recipient` this token endpoint, an `ID` once, no end that is further away than an hour;
 * - section 3 (7): one `AuthnStatement` at most;
 * - section 3 (9): a signature of the key that is registered for the issuer; (11) what SAML core says of the rest: `Version` (2.3.3), the order of the elements (its schema), `NotBefore` (2.5.1), one enveloped
 *   signature over the whole by `ID` (5.4).
 * The signature is checked by node-saml (https://github.com/node-saml/node-saml), and everything is read out of what was signed, as
 * that library's `getVerifiedXml` gives it back, and nothing out of what came.
 */
import 'reflect-metadata'
import { webcrypto } from 'node:crypto'
import { getVerifiedXml, parseDomFromString, xpath } from '@node-saml/node-saml/lib/xml.js'
import * as x509 from '@peculiar/x509'

const SAML = 'urn:oasis:names:tc:SAML:2.0:assertion'
const BEARER = 'urn:oasis:names:tc:SAML:2.0:cm:bearer'
const ORDER = ['Issuer', 'Signature', 'Subject', 'Conditions', 'AuthnStatement', 'AttributeStatement']
const [HOUR, DAY] = [3_600_000, 86_400_000]

/** PEM: a key, and the certificate that a service is given for it. */
export interface SamlSigner {
  readonly key: string
  readonly certificate: string
}

export const aSamlSigner = async (modulusLength = 2048): Promise<SamlSigner> => {
  const algorithm = {
    name: 'RSASSA-PKCS1-v1_5',
    modulusLength,
    publicExponent: new Uint8Array([1, 0, 1]),
    hash: 'SHA-256',
  } as const
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify'])
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: '01',
    name: 'CN=deputy',
    notBefore: new Date(Date.now() - DAY),
    notAfter: new Date(Date.now() + DAY),
    signingAlgorithm: algorithm,
    keys,
  })
  return {
    key: x509.PemConverter.encode(await webcrypto.subtle.exportKey('pkcs8', keys.privateKey), 'PRIVATE KEY'),
    certificate: certificate.toString('pem'),
  }
}

type Element = ReturnType<typeof xpath.selectElements>[number]
const wrong = (why: string): never => {
  throw new Error(why)
}

const all = (parent: Element, name: string): Element[] =>
  xpath.selectElements(parent, `./*[local-name()='${name}' and namespace-uri()='${SAML}']`)
/** The one element of that name; where there are several, or none, it is unclear what is meant. */
const one = (parent: Element, name: string): Element => {
  const found = all(parent, name)
  return found.length === 1 ? found[0]! : wrong(`${found.length} elements ${name}`)
}
const textOf = (element: Element): string => element.textContent ?? ''
const timeOf = (element: Element, name: string): number => {
  const time = Date.parse(element.getAttribute(name) ?? '')
  return Number.isNaN(time) ? wrong(`${name} is no time`) : time
}

/** Says for whom an assertion speaks, or what is wrong with it. */
export const createSamlGrant = (trusts: {
  readonly certificate: string
  readonly issuer: string
  readonly audience: string
  readonly tokenEndpoint: string
}) => {
  const used = new Set<string>()

  const read = async (encoded: string): Promise<string> => {
    if (!/^[A-Za-z0-9_-]+$/.test(encoded)) wrong('it is not base64url')
    const sent = Buffer.from(encoded, 'base64url').toString('utf8')
    if (sent.includes('<!DOCTYPE')) wrong('it has a document type')
    const root = (await parseDomFromString(sent)).documentElement
    if (root.localName !== 'Assertion' || root.namespaceURI !== SAML) wrong('it is no assertion')
    const signed =
      getVerifiedXml(sent, root, [trusts.certificate]) ?? wrong('it is not signed by the key of its issuer')
    const assertion = (await parseDomFromString(signed)).documentElement
    if (assertion.getAttribute('Version') !== '2.0') wrong('its version')
    const children = xpath.selectElements(assertion, './*').map((each) => ORDER.indexOf(each.localName))
    if (children.some((place, at) => place < 0 || place < (children[at - 1] ?? 0))) wrong('the order of its elements')
    if (textOf(one(assertion, 'Issuer')) !== trusts.issuer) wrong('it is of another issuer')
    const now = Date.now()
    const conditions = one(assertion, 'Conditions')
    if (timeOf(conditions, 'NotBefore') > now) wrong('it is not valid yet')
    if (timeOf(conditions, 'NotOnOrAfter') <= now) wrong('it has expired')
    if (timeOf(conditions, 'NotOnOrAfter') > now + HOUR) wrong('its end is too far away')
    if (textOf(one(one(conditions, 'AudienceRestriction'), 'Audience')) !== trusts.audience)
      wrong('it is for another audience')
    const subject = one(assertion, 'Subject')
    const confirmed = all(subject, 'SubjectConfirmation').some((each) => {
      if (each.getAttribute('Method') !== BEARER) return false
      const data = one(each, 'SubjectConfirmationData')
      return data.getAttribute('Recipient') === trusts.tokenEndpoint && timeOf(data, 'NotOnOrAfter') > now
    })
    if (!confirmed) wrong('nothing confirms its subject for this token endpoint')
    if (all(assertion, 'AuthnStatement').length > 1) wrong('it has more than one AuthnStatement')
    const id = assertion.getAttribute('ID') ?? ''
    if (used.has(id)) wrong('its ID was used before')
    used.add(id)
    return textOf(one(subject, 'NameID'))
  }

  return (encoded: string): Promise<{ readonly subject: string } | { readonly problem: string }> =>
    read(encoded).then(
      (subject) => ({ subject }),
      (error: Error) => ({ problem: error.message }),
    )
}
