import { createLocalJWKSet, decodeJwt, errors, type JSONWebKeySet, type JWTPayload, type JWTVerifyGetKey } from 'jose'
import { z } from 'zod'
import type { Clock } from '#clock'
import type { Server } from '#config'
import { refuse } from '#errors'
import { verifyByAnyKey } from '#foundation/crypto'

export type ServiceAccount = Extract<Server['attest'][number], { kubernetes: unknown }>['kubernetes']

/** The keys of a cluster's issuer, found by discovery. */
export type ClusterKeys = (issuer: string) => JWTVerifyGetKey

const ALGORITHMS = ['RS256', 'ES256', 'ES384', 'PS256']
/** Seconds by which clocks may differ, and that a token may live: the kubelet renews projected ones long before (an hour by default). */
const LEEWAY = 30
const MAX_LIFETIME_S = 86_400
const MAX_TOKEN_LENGTH = 16_384
const PREFIX = 'system:serviceaccount:'

/** https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/#schema-for-service-account-private-claims */
const claimsSchema = z.looseObject({
  'kubernetes.io': z.looseObject({
    namespace: z.string(),
    serviceaccount: z.looseObject({ name: z.string() }),
    pod: z.looseObject({ name: z.string() }).optional(),
  }),
})

const subjectOf = ({
  namespace,
  service_account: name,
}: Pick<ServiceAccount, 'namespace' | 'service_account'>): string => `${PREFIX}${namespace}:${name}`

/** Whose token it says it is; not believed yet. Undefined for what is no service account's. */
export const serviceAccountOf = (assertion: string): { issuer: string; subject: string } | undefined => {
  try {
    const { iss, sub }: JWTPayload = decodeJwt(assertion)
    return typeof iss === 'string' && typeof sub === 'string' && sub.startsWith(PREFIX)
      ? { issuer: iss, subject: sub }
      : undefined
  } catch {
    return undefined
  }
}

/** The ways of a server that such a token could prove. */
export const accountsOf = (
  server: Server,
  { issuer, subject }: { issuer: string; subject: string },
): ServiceAccount[] =>
  server.attest.flatMap((way) =>
    'kubernetes' in way && way.kubernetes.issuer === issuer && subjectOf(way.kubernetes) === subject
      ? [way.kubernetes]
      : [],
  )

/**
 * Verifies a projected service-account token (https://kubernetes.io/docs/concepts/storage/projected-volumes/#serviceaccounttoken):
 * of the cluster's issuer, of this very account, for this Deputy alone, and bound to a pod. It is shown many times until the
 * kubelet renews it, so that there is no use to be counted; what bounds it is its audience and its short life.
 * @throws DeputyError `workload_unverified`, `issuer_unreachable`
 */
export const verifyServiceAccount = async (
  token: string,
  server: Server,
  account: ServiceAccount,
  options: { audiences: readonly string[]; keysOf: ClusterKeys; clock: Clock },
): Promise<void> => {
  const unverified = (problem: string, cause?: unknown) =>
    refuse('workload_unverified', { server: server.server, problem }, cause)
  if (token.length > MAX_TOKEN_LENGTH)
    throw unverified(`the service-account token is longer than ${MAX_TOKEN_LENGTH} characters`)
  const keys =
    account.jwks === undefined
      ? options.keysOf(account.issuer)
      : createLocalJWKSet(account.jwks as unknown as JSONWebKeySet)
  let claims: JWTPayload
  try {
    ;({ payload: claims } = await verifyByAnyKey(token, keys, {
      algorithms: ALGORITHMS,
      issuer: account.issuer,
      subject: subjectOf(account),
      audience: account.audience === undefined ? [...options.audiences] : account.audience,
      clockTolerance: LEEWAY,
      requiredClaims: ['exp', 'iat', 'aud'],
      currentDate: new Date(options.clock.now()),
    }))
  } catch (error) {
    if (!(error instanceof errors.JOSEError)) throw error
    throw unverified(
      error.code === 'ERR_JWT_EXPIRED'
        ? 'the service-account token has expired'
        : error.code === 'ERR_JWT_CLAIM_VALIDATION_FAILED'
          ? `its claim ${(error as errors.JWTClaimValidationFailed).claim} is not as it should be`
          : 'the service-account token is not signed by the cluster',
      new Error(error.message),
    )
  }
  if (claims.exp! - claims.iat! > MAX_LIFETIME_S)
    throw unverified('the service-account token lives longer than a day: use a projected one')
  const parsed = claimsSchema.safeParse(claims)
  // A token of a Secret or of `kubectl create token` is bound to no pod: its holder could be anywhere.
  if (!parsed.success || parsed.data['kubernetes.io'].pod === undefined)
    throw unverified('the service-account token is not bound to a pod: use a projected one')
  const { namespace, serviceaccount } = parsed.data['kubernetes.io']
  if (namespace !== account.namespace || serviceaccount.name !== account.service_account)
    throw unverified('its claims are of another service account')
}
