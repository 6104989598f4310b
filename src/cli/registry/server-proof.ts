/** How a server proves that it is the registered one, from options or answers. */
import { createPublicKey, type JsonWebKey } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import { calculateJwkThumbprint, type JWK } from 'jose'
import { createSystemRandom } from '#clock'
import { type Attestation, serverSchema } from '#config'
import { randomText, Secret } from '#foundation/crypto'
import { hashClientSecret } from '#identity/workload'
import { valueOf } from '../answers.ts'
import type { Judged } from '../asking.ts'
import type { Terminal } from '../terminal.ts'
import { findUser, uidOf } from './unix-user.ts'

export interface ProofOptions {
  uid?: string
  publicKey?: string
  clientSecret?: boolean
  serviceAccount?: string
  clusterIssuer?: string
}

/** A way of proof for the file, and a line that the person has to see, such as a secret that is shown once. */
export interface ProofOfServer {
  readonly attest: Attestation
  readonly shown?: string
}

/** @param isTested false: a number is taken although this machine knows no such user */
export const judgeUser = async (text: string, isTested: boolean): Promise<Judged<ProofOfServer>> => {
  const uid = uidOf(text)
  if (uid !== undefined && !isTested) return { value: { attest: { unix: { uid } } } }
  const found = await findUser(text)
  if (found !== undefined) return { value: { attest: { unix: { uid: found.uid } } } }
  return {
    problem:
      text === ''
        ? 'The Unix user is needed. Answer with a name or a number, or stop with Ctrl-C.'
        : `This machine has no Unix user ${JSON.stringify(text)}. Create it first: useradd --system NAME`,
    canInsist: uid !== undefined,
  }
}

/** Signature algorithms by the kind of key (RFC 7518 section 3.1, RFC 8037). */
const algorithmOf = ({ kty, crv }: JsonWebKey): string | undefined => {
  if (kty === 'RSA') return 'RS256'
  if (kty === 'OKP') return crv === 'Ed25519' ? 'EdDSA' : undefined
  return { 'P-256': 'ES256', 'P-384': 'ES384', 'P-521': 'ES512' }[crv ?? '']
}

/** The public part of a key: PEM, a JWK, or the first key of a JWK set. @throws Error for anything else */
const publicJwk = async (text: string): Promise<JWK> => {
  const parsed = text.trimStart().startsWith('{')
    ? (JSON.parse(text) as JsonWebKey & { keys?: JsonWebKey[] })
    : undefined
  const given = parsed?.keys?.[0] ?? parsed
  const key = given === undefined ? createPublicKey(text) : createPublicKey({ key: given, format: 'jwk' })
  const jwk = key.export({ format: 'jwk' })
  const alg = typeof given?.['alg'] === 'string' ? given['alg'] : algorithmOf(jwk)
  if (alg === undefined) throw new Error(`a key of the kind ${jwk.crv ?? jwk.kty} signs no assertions`)
  const kid = typeof given?.['kid'] === 'string' ? given['kid'] : await calculateJwkThumbprint(jwk as JWK)
  return { ...jwk, alg, kid } as JWK
}

/** @param path file with a public key, PEM or JWK; of a private key only the public part is taken */
export const judgeKey = async (path: string, workingFolder: string): Promise<Judged<ProofOfServer>> => {
  let text: string
  try {
    text = await readFile(resolve(workingFolder, path), 'utf8')
  } catch (error) {
    return { problem: `${path} cannot be read (${(error as NodeJS.ErrnoException).code ?? 'unknown'}).` }
  }
  try {
    return { value: { attest: { private_key_jwt: { jwks: { keys: [await publicJwk(text)] } } } } }
  } catch {
    return {
      problem: `${path} holds no public key of RSA, P-256, P-384, P-521 or Ed25519. Write PEM or a JWK: openssl pkey -in KEY -pubout`,
    }
  }
}

/** A client secret that is made here: the file gets its hash, and the person sees it once. */
export const makeClientSecret = async (): Promise<ProofOfServer> => {
  const random = createSystemRandom()
  const secret = randomText(random, 32)
  const scrypt = await hashClientSecret(new Secret(secret), random)
  return {
    attest: { client_secret: { scrypt } },
    shown: `client secret of the server, shown this once: ${secret}`,
  }
}

const serviceAccountProof = (account: string, issuer: string | undefined): Judged<ProofOfServer> => {
  const [namespace, name, ...more] = account.split('/')
  if (issuer === undefined)
    return {
      problem: 'Add --cluster-issuer: the `issuer` that kubectl get --raw /.well-known/openid-configuration prints.',
    }
  const parsed = serverSchema.shape.attest.safeParse([{ kubernetes: { issuer, namespace, service_account: name } }])
  return parsed.success && more.length === 0
    ? { value: { attest: parsed.data[0]! } }
    : { problem: 'Write --service-account NAMESPACE/NAME, and the URL of the cluster with --cluster-issuer.' }
}

/** Every way of proof that the options name. @throws CommandError `usage` */
export const proofsOf = async (
  options: ProofOptions & { readonly offline?: boolean },
  { workingFolder }: Pick<Terminal, 'workingFolder'>,
): Promise<ProofOfServer[]> => {
  const { uid, publicKey, clientSecret, serviceAccount, clusterIssuer } = options
  return [
    ...(uid === undefined ? [] : [valueOf(await judgeUser(uid, options.offline !== true))]),
    ...(publicKey === undefined ? [] : [valueOf(await judgeKey(publicKey, workingFolder))]),
    ...(clientSecret === true ? [await makeClientSecret()] : []),
    ...(serviceAccount === undefined ? [] : [valueOf(serviceAccountProof(serviceAccount, clusterIssuer))]),
  ]
}
