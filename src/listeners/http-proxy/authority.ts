import { webcrypto } from 'node:crypto'
import { isIP } from 'node:net'
import { createSecureContext, type SecureContext } from 'node:tls'
import { createLru } from '#foundation/lru'
import { z } from 'zod'
import type { Clock, Random } from '#clock'
import { Secret } from '#foundation/crypto'

/** The certificate authority of this installation: programs that trust it let the proxy into their TLS. */
export interface Authority {
  /** In PEM. */
  readonly certificate: string
  /** TLS as this host. */
  contextFor(host: string): Promise<SecureContext>
}

const EC = { name: 'ECDSA', namedCurve: 'P-256' } as const
const SIGNATURE = { name: 'ECDSA', hash: 'SHA-256' } as const

const DAY_MS = 86_400_000
/** How long the authority lasts, and how long before its end a start makes another (ms). */
const AUTHORITY_LIFETIME_MS = 2 * 365 * DAY_MS
const RENEWAL_MARGIN_MS = 180 * DAY_MS
/** How long a host's certificate lasts, and how long it is used (ms): connections that are open outlast the second, not the first. */
const LEAF_LIFETIME_MS = DAY_MS
const LEAF_USE_MS = DAY_MS / 2
/** Clocks of programs may be behind (ms). */
const CLOCK_SKEW_MS = 3_600_000
const MAX_HOSTS = 500

const storedSchema = z.object({ key: z.string(), certificate: z.string(), until: z.number() })

// Loaded when a certificate is made and not before: it takes a tenth of a second, and many installations never need it.
const loadX509 = async () => {
  await import('reflect-metadata')
  return import('@peculiar/x509')
}

const serialNumber = (random: Random): string => `4${Buffer.from(random.bytes(16)).toString('hex').slice(1)}`

const exportKey = async (key: webcrypto.CryptoKey): Promise<string> =>
  `-----BEGIN PRIVATE KEY-----\n${Buffer.from(await webcrypto.subtle.exportKey('pkcs8', key))
    .toString('base64')
    .replace(/.{64}/g, '$&\n')}\n-----END PRIVATE KEY-----\n`

const importKey = (pem: string): Promise<webcrypto.CryptoKey> =>
  webcrypto.subtle.importKey('pkcs8', Buffer.from(pem.replace(/-----[^-]+-----|\s/g, ''), 'base64'), EC, false, [
    'sign',
  ])

/** A new authority, in the form in which it is stored: its key leaves this process only sealed. */
export const createAuthority = async ({ clock, random }: { clock: Clock; random: Random }): Promise<Secret> => {
  const {
    X509CertificateGenerator,
    BasicConstraintsExtension,
    KeyUsagesExtension,
    KeyUsageFlags,
    SubjectKeyIdentifierExtension,
  } = await loadX509()
  const keys = await webcrypto.subtle.generateKey(EC, true, ['sign', 'verify'])
  const until = clock.now() + AUTHORITY_LIFETIME_MS
  const certificate = await X509CertificateGenerator.createSelfSigned({
    serialNumber: serialNumber(random),
    name: 'CN=Deputy proxy of this installation',
    notBefore: new Date(clock.now() - CLOCK_SKEW_MS),
    notAfter: new Date(until),
    signingAlgorithm: SIGNATURE,
    keys,
    extensions: [
      new BasicConstraintsExtension(true, 0, true),
      new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
      await SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  })
  return new Secret(
    JSON.stringify({ key: await exportKey(keys.privateKey), certificate: `${certificate.toString('pem')}\n`, until }),
  )
}

/** Whether an authority that was kept lasts long enough for programs to read it anew. */
export const isLasting = (kept: Secret, clock: Clock): boolean =>
  storedSchema.parse(JSON.parse(kept.reveal())).until - RENEWAL_MARGIN_MS > clock.now()

/** The authority that was stored. Certificates of hosts are made on demand, short-lived and only in memory. */
export const openAuthority = (kept: Secret, { clock, random }: { clock: Clock; random: Random }): Authority => {
  const { key, certificate } = storedSchema.parse(JSON.parse(kept.reveal()))
  let made: Promise<{ signingKey: webcrypto.CryptoKey; publicKey: webcrypto.CryptoKey; privatePem: string }> | undefined
  const contexts = createLru<string, { context: Promise<SecureContext>; until: number }>({ max: MAX_HOSTS })

  const keysOf = async () => {
    const { privateKey, publicKey } = await webcrypto.subtle.generateKey(EC, true, ['sign', 'verify'])
    return { signingKey: await importKey(key), publicKey, privatePem: await exportKey(privateKey) }
  }

  const make = async (host: string): Promise<SecureContext> => {
    const {
      X509CertificateGenerator,
      X509Certificate,
      BasicConstraintsExtension,
      ExtendedKeyUsageExtension,
      ExtendedKeyUsage,
      SubjectAlternativeNameExtension,
      AuthorityKeyIdentifierExtension,
    } = await loadX509()
    const { signingKey, publicKey, privatePem } = await (made ??= keysOf())
    const issuer = new X509Certificate(certificate)
    const leaf = await X509CertificateGenerator.create({
      serialNumber: serialNumber(random),
      issuer: issuer.subject,
      notBefore: new Date(clock.now() - CLOCK_SKEW_MS),
      notAfter: new Date(clock.now() + LEAF_LIFETIME_MS),
      signingAlgorithm: SIGNATURE,
      publicKey,
      signingKey,
      extensions: [
        new BasicConstraintsExtension(false, undefined, true),
        new ExtendedKeyUsageExtension([ExtendedKeyUsage.serverAuth]),
        new SubjectAlternativeNameExtension([{ type: isIP(host) === 0 ? 'dns' : 'ip', value: host }], true),
        await AuthorityKeyIdentifierExtension.create(issuer),
      ],
    })
    return createSecureContext({
      key: privatePem,
      cert: `${leaf.toString('pem')}\n${certificate}`,
      minVersion: 'TLSv1.2',
    })
  }

  return {
    certificate,
    contextFor(host) {
      const known = contexts.get(host)
      if (known !== undefined && known.until > clock.now()) return known.context
      const context = make(host)
      contexts.set(host, { context, until: clock.now() + LEAF_USE_MS })
      context.catch(() => {
        contexts.delete(host)
      })
      return context
    },
  }
}
