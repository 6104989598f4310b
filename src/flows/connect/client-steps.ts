import { LOOPBACK_HOSTS, type Server, servesTenant, type Snapshot, userIssuerOf } from '#config'
import { asDeputyError, refuse } from '#errors'
import { type ClientSignIn, isClientAllowed, type KnownClient } from '#identity/client'
import { clientAncestors, omittedOf, sessionsIn, tokenIdOf } from '#identity/subject'
import {
  assertNotRevoked,
  clientConsentOwner,
  type CredentialDependencies,
  dependenciesOfSignIn,
} from '#identity/validity'
import type { ClientRequest, Step } from './attempt.ts'
import { assertClientPermitted } from './client-policy.ts'
import { beginClient } from './client-begin.ts'
import type { ClientConsents } from './client-consent.ts'
import { clientConsentPage } from './client-page.ts'
import { assertMaySignIn, serverOf, tenantInForce } from './parties.ts'
import type { createSignIn } from './sign-in.ts'
import { rememberSignIn, type SignedIn } from './signed-in.ts'
import {
  assertBrowser,
  secretOf,
  shownUser,
  textOf,
  type ConnectFlow,
  type StepAnswer,
  type StepDependencies,
} from './step.ts'

/** What the user has decided: the client session that tokens are issued for, or nothing. */
export interface ClientDecision {
  readonly interaction: string
  readonly session: string | undefined
  /** The browser in which the user has decided; no other one may go on. */
  readonly browser: string
}

type ClientPurpose = Extract<Step<'sign_in'>['purpose'], { kind: 'client' }>
type Consent = Step<'client_consent'>
type Dependencies = StepDependencies & {
  readonly signIn: ReturnType<typeof createSignIn>
  readonly clientConsents: ClientConsents
}

/** Loopback redirects are free for any program of the machine (RFC 8252 section 8.3): they prove no client. */
const isLocal = (redirectUri: string): boolean => {
  const { protocol, hostname } = new URL(redirectUri)
  return protocol !== 'https:' || LOOPBACK_HOSTS.has(hostname)
}

/** Asked at every step: each may have been taken away since the request came. @throws DeputyError `connect_invalid` and others */
const assertParties = (deps: Dependencies, { tenant, server, client }: ClientRequest, user: string): Server => {
  assertMaySignIn(deps, tenant, user)
  const found = serverOf(deps.snapshot(), server)
  if (!servesTenant(found.tenants, tenant))
    throw refuse('connect_invalid', { problem: 'the server does not serve your organization' })
  if (!isClientAllowed(client, { tenant, server }, deps.snapshot()))
    throw refuse('connect_invalid', { problem: 'the client may not be used here' })
  return found
}

/** The client is what it was when the request came, and may be used. @throws DeputyError `connect_invalid` */
const assertClient = async ({ clientRegistry }: Dependencies, wish: ClientRequest): Promise<KnownClient> => {
  const client = await clientRegistry.find(wish.client)
  if (client === undefined) throw refuse('connect_invalid', { problem: 'the client is no longer known' })
  if (client.digest !== wish.digest)
    throw refuse('connect_invalid', { problem: 'the client has changed since the sign-in began' })
  if (!client.isApproved) throw refuse('connect_invalid', { problem: 'the client waits for its approval' })
  return client
}

/** What the client would have for the user. @param since when the user has allowed it (ms since the epoch) */
const dependenciesOf = (
  { tenant, server, client }: ClientRequest,
  user: string,
  tokens: readonly string[],
  since: number,
): CredentialDependencies => ({
  tenant,
  user,
  server,
  downstreams: [],
  tokens: [...tokens, ...clientAncestors(client, '')],
  since,
})

/** Back to the authorization server, in the same browser. @param session undefined: the user has not allowed the client */
const onward = async (
  deps: Dependencies,
  { browser, wish: { interaction, tenant } }: Consent,
  session?: string,
): Promise<StepAnswer> => {
  const value = await deps.attempts.begin('client_decision', tenant, {
    browser,
    interaction,
    ...(session === undefined ? {} : { session }),
  })
  return { redirect: new URL(`${deps.baseUrl()}/sign-in/${interaction}/continue?decision=${value}`) }
}

/** What the sign-in descends from at its identity provider: a revocation of the issuer covers it also where it names no session. */
const ancestorsOf = (deps: Dependencies, tenant: string, { issuer, claims, signedInAt }: Consent['who']): string[] => {
  const sessions = sessionsIn({ tenant, issuer }, claims, deps.fingerprint)
  return sessions.length > 0 ? [...sessions] : [tokenIdOf(issuer, `sign-in:${signedInAt}`)]
}

/** Asks policy, and records who it has refused. @throws DeputyError `client_denied` and others */
const assertPermitted = async (deps: Dependencies, { wish, who }: Consent): Promise<void> => {
  try {
    assertClientPermitted(deps, { ...wish, ...who }, wish.scopes)
  } catch (thrown) {
    const { tenant, server, client, scopes, correlationId: id } = wish
    const { code, message } = asDeputyError(thrown)
    await deps.audit.append({
      id,
      event: 'client.consent',
      outcome: 'refused',
      tenant,
      user: who.user,
      server,
      detail: { client, scopes, issuer: who.issuer, error: { code, message } },
    })
    throw thrown
  }
}

/** Begins the client session, whose tokens the authorization server issues. */
const allow = async (deps: Dependencies, step: Consent): Promise<StepAnswer> => {
  const { wish, who } = step
  const { tenant, client, server, scopes } = wish
  const { user, display, issuer, groups, claims, signedInAt } = who
  const ancestors = ancestorsOf(deps, tenant, who)
  assertParties(deps, wish, user)
  assertNotRevoked(dependenciesOf(wish, user, ancestors, signedInAt), deps)
  await assertPermitted(deps, step)
  const session = await deps.clientSessions.begin({
    tenant,
    user,
    ...(display === undefined ? {} : { display }),
    client,
    server,
    scopes,
    issuer,
    groups,
    claims,
    ancestors,
    signedInAt,
    expiresAt: signedInAt + deps.snapshot().settings.sign_in.session_lifetime,
  })
  await deps.clientRegistry.used(client, session.expiresAt)
  await deps.identityTokens.keep({ tenant, user, issuer }, secretOf(who.idToken))
  return onward(deps, step, session.id)
}

/** Whether the user has allowed all of it before, to a client that its redirect address proves and that is still the same. */
const isRemembered = async (
  deps: Dependencies,
  { wish, who: { user } }: Consent,
  { changedAt }: KnownClient,
): Promise<boolean> => {
  // Anyone can register a client: one that a file or a host vouches for is remembered.
  if (wish.known === 'registered' || wish.redirectUri === undefined || isLocal(wish.redirectUri)) return false
  const remembered = await deps.clientConsents.find(clientConsentOwner({ ...wish, user }))
  return (
    remembered !== undefined &&
    remembered.until > deps.clock.now() &&
    remembered.at >= changedAt &&
    deps.revocationIndex.findRevocation(dependenciesOf(wish, user, [], remembered.at)) === undefined &&
    wish.scopes.every((scope) => remembered.granted.includes(scope))
  )
}

const showConsent = async (deps: Dependencies, step: Consent, server: Server): Promise<StepAnswer> => {
  const { wish, who } = step
  const csrf = await deps.attempts.begin('client_consent', wish.tenant, step)
  const target = wish.redirectUri === undefined ? undefined : new URL(wish.redirectUri)
  const page = clientConsentPage({
    client: wish.name,
    provenBy: wish.provenBy,
    server: server.name ?? server.server,
    owner: server.owner,
    user: shownUser(who.user, who.display),
    tenant: tenantInForce(deps.snapshot(), wish.tenant).name ?? wish.tenant,
    scopes: wish.scopes,
    redirectHost: target === undefined ? undefined : target.host === '' ? target.protocol : target.host,
    isLocal: wish.redirectUri !== undefined && isLocal(wish.redirectUri),
    interaction: wish.interaction,
    csrf,
  })
  // The form's answer leads to the client in the end, and browsers hold all redirects to `form-action`.
  if (target === undefined) return { page }
  return { page, formTarget: target.origin === 'null' ? target.protocol : target.origin }
}

/** What the client has for the user already, unless it was revoked. */
const standingBefore = async (
  { clientSessions, revocationIndex }: Dependencies,
  of: Parameters<Dependencies['clientSessions']['latest']>[0],
): Promise<ClientSignIn | undefined> => {
  const before = await clientSessions.latest(of)
  return before === undefined || revocationIndex.findRevocation(dependenciesOfSignIn(before)) !== undefined
    ? undefined
    : before
}

/** The consent page, or the way on where the user has allowed the client before. */
const askConsent = async (
  deps: Dependencies,
  { wish }: ClientPurpose,
  browser: string,
  who: SignedIn,
): Promise<StepAnswer> => {
  const { tenant, user } = who
  const asked = { ...wish, tenant }
  const server = assertParties(deps, asked, user)
  const known = await assertClient(deps, asked)
  const { client, server: id } = asked
  // A request for more scopes adds to what the client has for the user, and never takes from it.
  const before = await standingBefore(deps, { tenant, user, client, server: id })
  const step: Consent = {
    browser,
    wish: { ...asked, scopes: [...new Set([...(before?.scopes ?? []), ...asked.scopes])] },
    who: rememberSignIn(who, deps.clock.now()),
  }
  await assertPermitted(deps, step)
  return (await isRemembered(deps, step, known)) ? allow(deps, step) : showConsent(deps, step, server)
}

/** Claims that the identity provider has left out of the sign-in, such as the groups of a user who is in many. */
const omittedIn = (snapshot: Snapshot, { wish, who: { issuer, claims } }: Consent) => {
  const trusted = userIssuerOf(tenantInForce(snapshot, wish.tenant), issuer, snapshot.providers)
  return trusted === undefined ? undefined : omittedOf(claims, trusted)
}

const decide = async (deps: Dependencies, step: Consent, isAllowed: boolean): Promise<StepAnswer> => {
  const {
    wish,
    who: { user, issuer },
  } = step
  const { tenant, server, client, scopes, correlationId: id } = wish
  assertParties(deps, wish, user)
  await assertClient(deps, wish)
  const record = { id, event: 'client.consent', tenant, user, server } as const
  const omitted = omittedIn(deps.snapshot(), step)
  const detail = { client, scopes, issuer, ...(omitted === undefined ? {} : { omitted_claims: omitted.claims }) }
  if (!isAllowed) {
    await deps.audit.append({ ...record, outcome: 'refused', detail: { ...detail, decision: { allowed: false } } })
    return onward(deps, step)
  }
  await deps.audit.append({ ...record, outcome: 'done', detail })
  await deps.clientConsents.remember(clientConsentOwner({ ...wish, user }), scopes, deps.clock.now())
  return allow(deps, step)
}

/** From a client's authorization request to a client session: which tenant, the sign-in, consent. */
export const createClientSteps = (
  deps: Dependencies,
): Pick<ConnectFlow, 'beginClient' | 'clientConsented' | 'clientDecided'> & {
  askConsent(purpose: ClientPurpose, browser: string, who: SignedIn): Promise<StepAnswer>
} => ({
  beginClient: (waiting, from) => beginClient(deps, waiting, from),
  askConsent: (purpose, browser, who) => askConsent(deps, purpose, browser, who),
  async clientConsented(form, browser) {
    const step = await deps.attempts.take('client_consent', textOf(form['csrf']))
    assertBrowser(browser, step.browser)
    return decide(deps, step, form['decision'] === 'allow')
  },
  async clientDecided(value, browser) {
    const decided = await deps.attempts.take('client_decision', value)
    assertBrowser(browser, decided.browser)
    return { interaction: decided.interaction, session: decided.session, browser: decided.browser }
  },
})
