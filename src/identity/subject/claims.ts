import { z } from 'zod'
import type { TrustedIssuer } from '#config'
import { refuse } from '#errors'
import { claimAt } from '#foundation/text'

/** Names and ids are text; some issuers write those that consist of digits as numbers. A number that is too large to be exact names no user. */
const textSchema = z.union([z.string(), z.number().refine(Number.isSafeInteger).transform(String)])

const actorSchema: z.ZodType<NestedActor> = z.looseObject({
  sub: textSchema.pipe(z.string().min(1)),
  iss: z.string().optional(),
  client_id: textSchema.optional(),
  get act() {
    return actorSchema.optional()
  },
}) as z.ZodType<NestedActor>
interface NestedActor {
  sub: string
  iss?: string | undefined
  client_id?: string | undefined
  act?: NestedActor | undefined
}

/** NumericDate of RFC 7519 section 2, up to the year 9999; some issuers write it as text. */
const numericDateSchema = z
  .union([
    z.number(),
    z
      .string()
      .regex(/^\d{1,12}(\.\d{1,9})?$/)
      .transform(Number),
  ])
  .pipe(z.number().min(0).max(253_402_300_799))

const audienceSchema = z.union([z.string().transform((audience) => [audience]), z.array(z.string())])

const MAX_CLAIM_DEPTH = 20

/**
 * The claims that are there: one whose value is `null` is absent, in the
 * objects inside too.
 */
export const presentClaims = (
  claims: Readonly<Record<string, unknown>>,
  depth = 0,
): Readonly<Record<string, unknown>> =>
  Object.fromEntries(
    Object.entries(claims).flatMap(([name, value]) => {
      if (value === null) return []
      const isObject = typeof value === 'object' && !Array.isArray(value) && depth < MAX_CLAIM_DEPTH
      return [[name, isObject ? presentClaims(value as Readonly<Record<string, unknown>>, depth + 1) : value]]
    }),
  )

/** The claims that a subject token must have, from every issuer. Claims in another form than that of the standards are refused. */
export const subjectClaimsSchema = z.looseObject({
  iss: z.string(),
  sub: textSchema.pipe(z.string().min(1)).optional(),
  aud: audienceSchema,
  exp: numericDateSchema,
  iat: numericDateSchema.optional(),
  nbf: numericDateSchema.optional(),
  jti: textSchema.pipe(z.string().min(1).max(512)).optional(),
  acr: textSchema.optional(),
  client_id: textSchema.optional(),
  act: actorSchema.optional(),
  may_act: actorSchema.optional(),
  cnf: z.unknown().optional(),
})
export type SubjectClaims = z.output<typeof subjectClaimsSchema>

/** Scopes of an access token: `scope` (RFC 8693 section 4.2), or the list `scp` of Okta and Entra. */
export const scopesOf = ({ scope, scp }: Readonly<Record<string, unknown>>): string[] => {
  const listed = [scope ?? scp ?? []].flat().filter((each): each is string => typeof each === 'string')
  return [...new Set(listed.flatMap((each) => each.split(' ')))].filter((each) => each !== '')
}

/**
 * What makes a name look like another one, or end the line that it stands in: users choose these names at many
 * providers.
 */
const MISLEADING = /[\p{Bidi_Control}\p{Zl}\p{Zp}]/u

/**
 * What people know the user by, for pages; undefined where the tenant's file names no claim for it, or it is no text of
 * one line that reads as it is written.
 */
export const displayNameOf = (claims: Readonly<Record<string, unknown>>, issuer: TrustedIssuer): string | undefined => {
  const name = issuer.claims.display === undefined ? undefined : claimAt(claims, issuer.claims.display)
  return typeof name === 'string' && USER.test(name) && !MISLEADING.test(name) ? name : undefined
}

/** Groups of one user at most. One that is left out could be one that a policy forbids: more are refused. */
const MAX_GROUPS = 2000

/** 1 to 256 characters, none of which moves a terminal's cursor or is half of one (a lone surrogate). */
const USER = /^[^\p{Cc}\p{Cs}]{1,256}$/u

/** The user that a token is about. @throws DeputyError `subject_token_invalid` */
export const userOf = (claims: Readonly<Record<string, unknown>>, issuer: TrustedIssuer): string => {
  const user = textSchema.safeParse(claimAt(claims, issuer.claims.user)).data
  if (user === undefined || !USER.test(user))
    throw refuse('subject_token_invalid', { problem: `its claim ${issuer.claims.user} names no user` })
  return user
}

/**
 * A path is the group and those above it, without the slash at its beginning; Keycloak writes a slash within a name as
 * `~/`.
 */
const withParents = (group: string): string[] => {
  if (!group.startsWith('/')) return [group]
  const names = group.slice(1).split(/(?<!~)\//)
  return names.map((_, at) => names.slice(0, names.length - at).join('/')).filter((each) => each !== '')
}

/**
 * Whether a name is one of the claim with this prefix: where another claim has a longer prefix, names that begin with
 * that are its own. A group
 * that is called `role:admin` is not the role `admin`.
 */
const isOwnName = (name: string, prefix: string, { groups }: TrustedIssuer['claims']): boolean =>
  !groups.some((other) => other.prefix.length > prefix.length && name.startsWith(other.prefix))

/** Claims that the issuer has left out of a token because they are elsewhere, and whether groups are mapped from one of them. */
export interface OmittedClaims {
  readonly claims: readonly string[]
  readonly groups: boolean
}

/**
 * What the issuer says that the user has, and where it is, instead of saying what: Entra ID does so with the groups of users
 * who are in more than 200 (`_claim_names`, distributed claims of OpenID Connect Core section 5.6.2; `hasgroups` in the implicit
 * flow). They are not fetched: the place is one that a token names, and Microsoft Graph asks for a permission of its own.
 * @returns undefined where nothing is left out
 * @see https://learn.microsoft.com/en-us/troubleshoot/entra/entra-id/app-integration/get-signed-in-users-groups-in-access-token
 */
export const omittedOf = (
  { _claim_names: elsewhere, hasgroups, groups }: Readonly<Record<string, unknown>>,
  issuer: TrustedIssuer,
): OmittedClaims | undefined => {
  const named = typeof elsewhere === 'object' && elsewhere !== null ? Object.keys(elsewhere) : []
  const claims = new Set(groups === undefined && String(hasgroups) === 'true' ? [...named, 'groups'] : named)
  if (claims.size === 0) return undefined
  return {
    claims: [...claims],
    groups: issuer.claims.groups.some(({ claim }) => claims.has(claim) || claims.has(claim.split('.')[0]!)),
  }
}

/**
 * Groups by the issuer's mapping: of each of its claims a list of texts, or one text, which is a list of one. Anything
 * else counts as
 * no groups. @throws DeputyError `subject_token_invalid` when there are more than 2000
 */
export const groupsOf = (claims: Readonly<Record<string, unknown>>, issuer: TrustedIssuer): string[] => {
  const groups = new Set(
    issuer.claims.groups.flatMap(({ claim, prefix }) =>
      [claimAt(claims, claim) ?? []]
        .flat()
        .filter((group): group is string => typeof group === 'string' && group !== '')
        .flatMap((group) => withParents(group).map((each) => prefix + each))
        .filter((name) => isOwnName(name, prefix, issuer.claims)),
    ),
  )
  if (groups.size > MAX_GROUPS)
    throw refuse('subject_token_invalid', { problem: `it names more than ${MAX_GROUPS} groups` })
  return [...groups]
}
