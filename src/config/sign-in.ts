import { z } from 'zod'
import { parSchema, type Provider, providerFor, variablesSchema } from './provider.ts'
import type { Tenant, TrustedIssuer } from './tenant.ts'
import { idSchema, scopeSchema, secretReferenceSchema, urlSchema } from './values.ts'

/** A domain of e-mail addresses, in lower case: it is compared whole. */
const domainSchema = z
  .string()
  .max(253)
  .regex(/^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)+$/, 'write a domain: acme.com')

/** How a tenant's users sign in: at an OpenID provider, or at a plain OAuth provider that says who has signed in when it is asked. */
export const signInSchema = z
  .strictObject({
    issuer: urlSchema.optional().describe("OpenID provider at which the tenant's users sign in; one of `issuers`."),
    provider: idSchema
      .optional()
      .describe(
        'In place of `issuer`: the provider file of an OAuth service without ID tokens, such as `github`, whose file has `sign_in`.',
      ),
    variables: variablesSchema
      .default({})
      .describe("With `provider`: values for `{name}` in the provider's endpoints."),
    client_id: z.string().min(1).describe("Deputy's client at the provider."),
    client_secret: secretReferenceSchema.optional().describe('Absent for a public client.'),
    scopes: z
      .array(scopeSchema)
      .optional()
      .describe('Scopes of the sign-in; default: `openid`, or with `provider` those of its file.'),
    claims: z
      .strictObject({
        user: z.string().min(1).max(100).optional().describe('Member that names the user.'),
        display: z.string().min(1).max(100).optional().describe("Member with the user's display name."),
      })
      .default({})
      .describe(
        'With `provider`: members of its answer about the user; default: those of its file. Choose for `user` a member that no user can change and that the provider never gives to another.',
      ),
    members_of: z
      .union([z.literal('*'), z.array(z.string().min(1).max(256)).min(1).max(100)])
      .optional()
      .describe(
        'With `provider`: the groups of which a user must be in one to belong to this tenant, such as a GitHub organization. "*": every account of the provider belongs to it.',
      ),
    domains: z
      .array(domainSchema)
      .max(1000)
      .default([])
      .describe(
        "E-mail domains of the tenant's users. Where a server serves several tenants, Deputy asks the user for the e-mail address and chooses the tenant by its domain, so that no page lists the tenants.",
      ),
    redirect_uri: z
      .enum(['own', 'shared'])
      .optional()
      .describe(
        'Address to which the identity provider sends the browser back. shared: /connect/signed-in. own: /connect/signed-in/TENANT. Default: own where tenants sign in at several identity providers and the metadata of this one does not have `authorization_response_iss_parameter_supported: true` (RFC 9207), so that no identity provider can have the codes of another one sent to itself; else shared. Register both addresses there. Write shared only for an identity provider that you trust for the users of all tenants.',
      ),
    device: z
      .boolean()
      .default(false)
      .describe(
        "With `issuer`: whether Unix users can sign in with `deputy login --device`, by the identity provider's own device grant (RFC 8628). The person approves it on a page of the identity provider, which does not say for which Unix user: a code that an attacker has sent signs the attacker's Unix user in as that person. Set it where Deputy's pages cannot be opened from a browser.",
      ),
    par: parSchema,
    login_hint: z
      .boolean()
      .default(false)
      .describe(
        'True: a connect link passes the user for whom it was made to the identity provider (`login_hint`). This helps where users sign in with the name that they have at Deputy. A person who opens the link sees that name.',
      ),
  })
  .superRefine((signIn, context) => {
    const problem = (path: string, message: string): void => {
      context.addIssue({ code: 'custom', path: [path], message })
    }
    if ((signIn.issuer === undefined) === (signIn.provider === undefined))
      problem('issuer', 'name either `issuer` or `provider`')
    if (signIn.provider !== undefined && signIn.members_of === undefined)
      problem('members_of', 'with `provider`, name the groups whose members belong to the tenant, or write "*"')
    if (signIn.device && signIn.issuer === undefined) problem('device', 'only with `issuer`')
    if (signIn.issuer === undefined) return
    if (signIn.members_of !== undefined)
      problem('members_of', "with `issuer`, `claims.tenant` of the issuer says which users are the tenant's")
    if (Object.keys(signIn.claims).length > 0) problem('claims', 'with `issuer`, write `claims` under `issuers`')
    if (Object.keys(signIn.variables).length > 0) problem('variables', 'only with `provider`')
  })
export type SignInSettings = z.output<typeof signInSchema>

/** Whether a user with these groups belongs to a tenant that signs in at a plain OAuth provider. */
export const isMemberOf = (
  { members_of: members = [] }: Pick<SignInSettings, 'members_of'>,
  groups: readonly string[],
): boolean => members === '*' || groups.some((group) => members.includes(group))

type Providers = ReadonlyMap<string, Provider>

/** The facts of the provider of a sign-in, for its client; undefined where it is an OpenID provider, or has no file. */
export const signInProvider = (signIn: SignInSettings, providers: Providers): Provider | undefined => {
  const file = signIn.provider === undefined ? undefined : providers.get(signIn.provider)
  return file === undefined ? undefined : providerFor(file, signIn.variables)
}

/** The issuer of users who sign in at a plain OAuth provider, which has no issuer identifier of its own. */
const issuerOfProvider = ({ issuer, authorization_endpoint: endpoint }: Provider): string =>
  issuer ?? new URL(endpoint!).origin

/** The issuer of users who sign in, by which they can be revoked: that of the settings, or the origin of the OAuth provider. */
export const signInIssuer = (
  { sign_in: signIn }: Pick<Tenant, 'sign_in'>,
  providers: Providers,
): string | undefined => {
  if (signIn === undefined) return undefined
  const provider = signInProvider(signIn, providers)
  return signIn.issuer ?? (provider === undefined ? undefined : issuerOfProvider(provider))
}

/**
 * An issuer that a tenant trusts for users who have signed in: one of `issuers`, or its plain OAuth provider. Tokens of the latter
 * are never subject tokens, because it signs none and names no audience.
 */
export const userIssuerOf = (tenant: Tenant, issuer: string, providers: Providers): TrustedIssuer | undefined => {
  const trusted = tenant.issuers.find((each) => each.issuer === issuer)
  if (trusted !== undefined || tenant.sign_in === undefined) return trusted
  const provider = signInProvider(tenant.sign_in, providers)
  if (provider?.sign_in === undefined || issuerOfProvider(provider) !== issuer) return undefined
  const { user = provider.sign_in.user, display = provider.sign_in.display } = tenant.sign_in.claims
  return {
    issuer,
    algorithms: [],
    session_lifetime: 0,
    claims: { user, ...(display === undefined ? {} : { display }), groups: [{ claim: 'groups', prefix: '' }] },
  }
}
