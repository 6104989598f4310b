import type { Clock, Random } from '#clock'
import type { CurrentSnapshot, Tenant } from '#config'
import type { IdentityProviders, ProviderClient, ProviderClients, ReadUserinfo } from '#credentials/provider'
import { refuse, type DeputyError } from '#errors'
import type { AuditEvent, AuditLog } from '#foundation/audit'
import type { Membership } from '#foundation/cluster'
import { type Envelope, type Fingerprint, Secret } from '#foundation/crypto'
import type { Grant, Store } from '#foundation/store'
import type { Logger } from '#foundation/telemetry'
import type { ClientRegistry, ClientSessions } from '#identity/client'
import type { Policy } from '#identity/policy'
import type { WatchClaims } from '#identity/subject'
import type { RevocationIndex } from '#identity/validity'
import type { Attempts, ConnectRequest, WaitingClient } from './attempt.ts'
import type { createAuthorization } from './authorization.ts'
import type { IdentityTokens } from './identity-tokens.ts'
import type { ConnectLinks } from './links.ts'
import type { ClientDecision } from './client-steps.ts'

/** What a step shows: another address, a page, or why it ends here. */
export type StepAnswer =
  | { readonly redirect: URL }
  /** @param formTarget the one origin, other than that of the pages, that a form of the page may lead to */
  | { readonly page: string; readonly formTarget?: string }
  /** @param otherAccount where the user can sign in as another */
  | { readonly refused: DeputyError; readonly otherAccount: string }

/** What a form of the pages has sent. */
export type FormFields = Readonly<Record<string, unknown>>

export interface FlowDependencies {
  readonly snapshot: CurrentSnapshot
  readonly store: Pick<Store, 'attempts' | 'consents' | 'grants' | 'sessions'>
  readonly envelope: Envelope
  readonly clients: ProviderClients
  readonly identityProviders: IdentityProviders
  /** Deputy's client at a plain OAuth provider at which a tenant's users sign in. */
  readonly signInClients: (tenant: Tenant) => Promise<ProviderClient>
  readonly readUserinfo: ReadUserinfo
  readonly identityTokens: Pick<IdentityTokens, 'keep'>
  readonly clientSessions: Pick<ClientSessions, 'begin' | 'latest'>
  /** Key of what only Deputy can have written. */
  readonly cookieKey: Secret
  readonly clientRegistry: Pick<ClientRegistry, 'find' | 'used' | 'waits'>
  readonly policy: () => Policy
  readonly fingerprint: Fingerprint
  readonly watchClaims?: WatchClaims
  readonly links: Pick<ConnectLinks, 'used'>
  readonly clock: Clock
  readonly random: Random
  readonly audit: AuditLog
  readonly logger: Logger
  readonly revocationIndex: RevocationIndex
  /** Ends the tokens of a grant that another one has replaced at their provider; is not waited for. */
  readonly endReplaced: (replaced: Grant, by: Grant) => void
  /**
   * Ends a grant that is not kept at its provider, with what is sealed in it. @returns false where no order for it can
   * be written
   */
  readonly endSealed: (grant: Grant) => Promise<boolean>
  readonly membership: Pick<Membership, 'catchUp'>
  /** Public URL of the pages. */
  readonly baseUrl: () => string
}

/** The flow in which a user connects a service, or signs a Unix user in. Each method is one request of a browser. */
export interface ConnectFlow {
  /** A link was opened. @param browser the id of the browser that continues from here; it gets one where it has none */
  begin(
    kind: 'connect' | 'login',
    link: string,
    from: { browser: () => string; isOtherAccount: boolean },
  ): Promise<StepAnswer>
  /** The identity provider has sent the browser back. */
  signedIn(answer: URL, browser: string | undefined): Promise<StepAnswer>
  /** The consent page was answered. */
  consented(form: FormFields, browser: string | undefined): Promise<StepAnswer>
  /** The OAuth service has sent the browser back. */
  authorized(answer: URL, browser: string | undefined): Promise<StepAnswer>
  /** A client's authorization request waits for the user. @param from.tenant the tenant that the user has chosen @param from.email the e-mail address that the user has typed */
  beginClient(
    waiting: WaitingClient,
    from: { browser: () => string; tenant: string | undefined; email: string | undefined; isOtherAccount: boolean },
  ): Promise<StepAnswer>
  /** The page on which the user allows a client was answered. */
  clientConsented(form: FormFields, browser: string | undefined): Promise<StepAnswer>
  /** The browser is on its way back to the authorization server. @param value what stands for the decision */
  clientDecided(value: string, browser: string | undefined): Promise<ClientDecision>
  /** The page that binds a Unix user was answered. */
  confirmed(form: FormFields, browser: string | undefined): Promise<StepAnswer>
}

/** The parts that the steps share. */
export type StepDependencies = FlowDependencies & {
  readonly attempts: Attempts
  readonly authorization: ReturnType<typeof createAuthorization>
  readonly record: (
    event: AuditEvent,
    outcome: 'done' | 'refused',
    wish: ConnectRequest,
    detail: object,
  ) => Promise<void>
}

/**
 * The browser that began the step must be the one that continues it: a window inside an app that drops cookies shows nothing of the kind.
 * @throws DeputyError `connect_invalid`, `connect_cookie_missing`
 */
export const assertBrowser = (browser: string | undefined, expected: string): void => {
  if (browser === undefined) throw refuse('connect_cookie_missing')
  if (browser !== expected) throw refuse('connect_invalid', { problem: 'it was begun in another browser' })
}

export const secretOf = (text: string | undefined): Secret | undefined =>
  text === undefined ? undefined : new Secret(text)

export const textOf = (value: unknown): string => (typeof value === 'string' ? value : '')

/** The name that people know, with the id that everything else goes by. */
export const shownUser = (user: string, display: string | undefined): string =>
  display === undefined || display === user ? user : `${display}, ${user}`

/** The one `state` of an answer. @throws DeputyError `connect_invalid` */
export const onlyState = (answer: URL): string => {
  const [state, another] = answer.searchParams.getAll('state')
  if (state === undefined || another !== undefined)
    throw refuse('connect_invalid', { problem: 'the answer carries no state, or more than one' })
  return state
}
