/** A certificate authority of a test, and what it issues. */
import 'reflect-metadata'
import { randomUUID, webcrypto } from 'node:crypto'
import * as x509 from '@peculiar/x509'

x509.cryptoProvider.set(webcrypto as unknown as Parameters<typeof x509.cryptoProvider.set>[0] & object)

/** PEM. */
export interface Issued {
  readonly certificate: string
  readonly key: string
}
export interface TestAuthority {
  readonly certificate: string
  issue(name: string, of: { readonly host?: string; readonly client?: boolean }): Promise<Issued>
  /** As most authorities issue: below another one, whose certificate the server has to send along. */
  intermediate(): Promise<TestAuthority>
}

const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const
const DAY = 86_400_000

const keyPem = async (key: webcrypto.CryptoKey): Promise<string> =>
  x509.PemConverter.encode(await webcrypto.subtle.exportKey('pkcs8', key), 'PRIVATE KEY')

const authorityOf = (
  authority: x509.X509Certificate,
  keys: webcrypto.CryptoKeyPair,
  times: { readonly notBefore: Date; readonly notAfter: Date },
): TestAuthority => {
  let serial = 1
  const nextSerial = (): string => (serial += 1).toString(16).padStart(2, '0')
  return {
    certificate: authority.toString('pem'),
    async issue(name, { host, client = false }) {
      const pair = await webcrypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify'])
      const certificate = await x509.X509CertificateGenerator.create({
        serialNumber: nextSerial(),
        subject: `CN=${name}`,
        issuer: authority.subject,
        ...times,
        signingAlgorithm: ALGORITHM,
        publicKey: pair.publicKey,
        signingKey: keys.privateKey,
        extensions: [
          new x509.ExtendedKeyUsageExtension([
            client ? x509.ExtendedKeyUsage.clientAuth : x509.ExtendedKeyUsage.serverAuth,
          ]),
          ...(host === undefined
            ? []
            : [
                new x509.SubjectAlternativeNameExtension([
                  /^\d/.test(host) ? { type: 'ip', value: host } : { type: 'dns', value: host },
                ]),
              ]),
        ],
      })
      return { certificate: certificate.toString('pem'), key: await keyPem(pair.privateKey) }
    },
    async intermediate() {
      const pair = await webcrypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify'])
      const certificate = await x509.X509CertificateGenerator.create({
        serialNumber: nextSerial(),
        subject: `CN=Test Intermediate ${randomUUID()}`,
        issuer: authority.subject,
        ...times,
        signingAlgorithm: ALGORITHM,
        publicKey: pair.publicKey,
        signingKey: keys.privateKey,
        extensions: AUTHORITY,
      })
      return authorityOf(certificate, pair, times)
    },
  }
}

const AUTHORITY = [
  new x509.BasicConstraintsExtension(true, 1, true),
  new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
]

export const aCertificateAuthority = async (): Promise<TestAuthority> => {
  const times = { notBefore: new Date(Date.now() - DAY), notAfter: new Date(Date.now() + DAY) }
  const keys = await webcrypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify'])
  const authority = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: '01',
    // Another that a test of this process trusts must not be taken for it: OpenSSL looks authorities up by their name.
    name: `CN=Test Authority ${randomUUID()}`,
    ...times,
    signingAlgorithm: ALGORITHM,
    keys,
    extensions: AUTHORITY,
  })
  return authorityOf(authority, keys, times)
}
