import type { OmittedClaims } from './claims.ts'
import type { Tenant } from '#config'
import { type Fingerprint, Secret, signedPartOf } from '#foundation/crypto'
import type { ActorClaim, ProofBinding } from '#oauth'

/** The id under which a token can be revoked. An issuer's URL holds no `#`, so the issuer can be read off it. */
export const tokenIdOf = (issuer: string, id: string): string => `${issuer}#${id}`

/** Ids under which all tokens of an MCP client, or of one sign-in at it, are revoked. No issuer's URL begins like them. */
const [OF_CLIENT, OF_SESSION, OF_AGENT] = ['client:', 'session:', 'agent:']

/** What a token of an MCP client's sign-in descends from. */
export const clientAncestors = (client: string, session: string): readonly string[] => [
  `${OF_SESSION}${session}`,
  `${OF_CLIENT}${client}`,
]
const namedAfter = (tokens: readonly string[], prefix: string): string[] =>
  tokens.flatMap((token) => (token.startsWith(prefix) ? [token.slice(prefix.length)] : []))
/** The MCP clients among what a token descends from. */
export const clientsAmong = (tokens: readonly string[]): string[] => namedAfter(tokens, OF_CLIENT)
/** What the tokens of an agent descend from. */
export const agentAncestor = (agent: string): string => `${OF_AGENT}${agent}`
/** The agents among what a token descends from; a token with one is not a user's. */
export const agentsAmong = (tokens: readonly string[]): string[] => namedAfter(tokens, OF_AGENT)
/** The sign-ins at MCP clients among what a token descends from. */
export const clientSessionsAmong = (tokens: readonly string[]): string[] => namedAfter(tokens, OF_SESSION)

/** The id of a token that an issuer may have given one: its `jti`, else the keyed fingerprint of what is signed of it. */
export const identify = (
  { issuer, jti, token }: { issuer: string; jti: unknown; token: Secret },
  fingerprint: Fingerprint,
): string => tokenIdOf(issuer, typeof jti === 'string' && jti !== '' ? jti : fingerprint(signedPartOf(token)))

/** The longest id of a session that is taken. */
const MAX_SID = 512

/**
 * The id under which all tokens and sign-ins of one session at an issuer can be revoked (`sid`: OpenID Connect Front-Channel Logout section 3). It goes
 * into minted tokens, so that it is the session's keyed fingerprint. Tenants that share an issuer have sessions of
 * their own: the events
 * of one tenant's transmitter end none of another's (promise 8).
 */
export const sessionIdOf = (
  { tenant, issuer, sid }: { readonly tenant: string; readonly issuer: string; readonly sid: string },
  fingerprint: Fingerprint,
): string => tokenIdOf(issuer, `sid:${fingerprint(new Secret(JSON.stringify([tenant, sid])))}`)

/** What a token or a sign-in descends from: the session at its issuer, where its claims name one. */
export const sessionsIn = (
  { tenant, issuer }: { readonly tenant: string; readonly issuer: string },
  { sid }: Readonly<Record<string, unknown>>,
  fingerprint: Fingerprint,
): readonly string[] =>
  typeof sid === 'string' && sid !== '' && sid.length <= MAX_SID
    ? [sessionIdOf({ tenant, issuer, sid }, fingerprint)]
    : []

/** A user or an agent whose token, or whose session on this machine, has been verified for the calling server. */
export interface VerifiedSubject {
  readonly tenant: Tenant
  /** Undefined: it is an agent. */
  readonly user: string | undefined
  /** The agent that acts for itself. Its id can be that of a user, so that the two are never one text. */
  readonly agent?: { readonly id: string; readonly owner: string }
  /** The MCP client that the user has signed in at, where Deputy has issued the token. */
  readonly client?: string
  readonly issuer: string
  readonly groups: readonly string[]
  /** What the issuer says that the user has, without saying what. */
  readonly omitted?: OmittedClaims
  /** Verified claims, for policy. */
  readonly claims: Readonly<Record<string, unknown>>
  readonly acr?: string
  /** Scopes of the subject token itself, if it has any. */
  readonly scopes?: readonly string[]
  readonly issuedAt: number
  /**
   * The earliest moment at which it can have been issued, by Deputy's clock (ms since the epoch): the issuer's clock may be
   * ahead by what is tolerated. What was revoked at this moment or later covers it, whenever it is seen first.
   */
  readonly earliestIssue: number
  readonly expiresAt: number
  /** `tokenIdOf` its `jti`, or of a keyed fingerprint where it has none; of a minted token, its `jti` alone. */
  readonly tokenId: string
  /** Ids of the tokens that it descends from. */
  readonly ancestors: readonly string[]
  /** Actors that it already carries, outermost first. */
  readonly actors: readonly ActorClaim[]
  /** The key that the token is bound to. */
  readonly confirmation?: ProofBinding
  readonly how: 'jwt' | 'introspection' | 'login_session'
}
