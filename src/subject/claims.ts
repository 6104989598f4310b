import { z } from 'zod'
import type { TrustedIssuer } from '../config/tenant.ts'
import type { Tenant } from '../config/tenant.ts'
import type { ActorClaim } from '../connector/connector.ts'
import { refuse } from '../errors.ts'

const actorSchema: z.ZodType<NestedActor> = z.looseObject({
  sub: z.string().min(1), iss: z.string().optional(), client_id: z.string().optional(), get act() { return actorSchema.optional() },
}) as z.ZodType<NestedActor>
interface NestedActor { sub: string; iss?: string | undefined; client_id?: string | undefined; act?: NestedActor | undefined }

const audienceSchema = z.union([z.string().transform((audience) => [audience]), z.array(z.string())])

/** What a subject token must say, whoever issued it. Claims that are of another form than the standards say are refused. */
export const subjectClaimsSchema = z.looseObject({
  iss: z.string(), aud: audienceSchema, exp: z.number(), iat: z.number().optional(), nbf: z.number().optional(),
  jti: z.string().min(1).max(512).optional(), acr: z.string().optional(), client_id: z.string().optional(),
  act: actorSchema.optional(), may_act: actorSchema.optional(),
})
export type SubjectClaims = z.output<typeof subjectClaimsSchema>

const GROUPS = 200

/** The actors of a token, outermost first (RFC 8693 section 4.1). */
export const actorsOf = ({ act }: Pick<SubjectClaims, 'act'>): ActorClaim[] => {
  const actors: ActorClaim[] = []
  for (let actor = act; actor !== undefined && actors.length < 10; actor = actor.act) {
    actors.push({ sub: actor.sub, ...(actor.iss === undefined ? {} : { iss: actor.iss }), ...(actor.client_id === undefined ? {} : { client_id: actor.client_id }) })
  }
  return actors
}

/**
 * The tenant of a verified token: of those that trust its issuer, the one whose tenant claim it carries.
 * @throws DeputyError `subject_tenant_unknown` when none or more than one fits
 */
export const tenantOf = (claims: Readonly<Record<string, unknown>>, trusting: readonly { tenant: Tenant; issuer: TrustedIssuer }[]): { tenant: Tenant; issuer: TrustedIssuer } => {
  const [fitting, another] = trusting.filter(({ issuer: { claims: mapping } }) => mapping.tenant === undefined || claims[mapping.tenant.claim] === mapping.tenant.value)
  if (fitting === undefined || another !== undefined) throw refuse('subject_tenant_unknown')
  return fitting
}

/** The user that a token is about. @throws DeputyError `subject_token_invalid` */
export const userOf = (claims: Readonly<Record<string, unknown>>, issuer: TrustedIssuer): string => {
  const user = claims[issuer.claims.user]
  if (typeof user !== 'string' || user === '' || user.length > 256) throw refuse('subject_token_invalid', { problem: `its claim ${issuer.claims.user} names no user` })
  return user
}

/** Groups by the issuer's mapping; whatever is not a list of texts counts as no groups. */
export const groupsOf = (claims: Readonly<Record<string, unknown>>, issuer: TrustedIssuer): string[] => {
  const groups = claims[issuer.claims.groups]
  return Array.isArray(groups) ? groups.filter((group): group is string => typeof group === 'string').slice(0, GROUPS) : []
}
