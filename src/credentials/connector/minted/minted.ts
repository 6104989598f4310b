import { type Clock, type Random, toSeconds } from '#clock'
import { randomText, Secret } from '#foundation/crypto'
import { type SigningKeys, signJwt } from '#foundation/keys'
import { ACCESS_TOKEN_TYPE, type ActorClaim, TXN_TOKEN_TYPE } from '#oauth'
import type { TokenStatus } from './status-index.ts'
import { downstreamsOf, type Connector, type CredentialRequest } from '../connector.ts'

/** The `act` claim (RFC 8693 section 4.1): the outermost is the current actor, earlier ones nest within. */
const nestActors = (actors: readonly ActorClaim[]): object | undefined =>
  actors.reduceRight<object | undefined>(
    (inner, actor) => ({ ...actor, ...(inner === undefined ? {} : { act: inner }) }),
    undefined,
  )

const subjectOf = ({ principal, server }: CredentialRequest): string => {
  if (principal.kind === 'user') return principal.user
  return principal.kind === 'agent' ? principal.agent : server.server
}

/**
 * `minted`: an access token by RFC 9068 that Deputy signs itself. `sub` is the user or the agent (`agent`), `act` the MCP server; when a
 * server asks for itself there is no `act`, and `sub` is the server. `anc` lists the tokens that it descends from,
 * so that revoking one of them voids this one. As a transaction token it says for which call it is and who began it
 * (draft-ietf-oauth-transaction-tokens), and is no access token.
 */
export const createMintedConnector = (options: {
  issuer: () => string
  /** Longest life, ms. */
  lifetime: () => number
  keys: SigningKeys
  /** Gives each token its place in a status list; undefined where none are published. */
  status?: { next(): TokenStatus; uriOf(list: string): string } | undefined
  clock: Clock
  random: Random
}): Connector => ({
  kind: 'minted',
  obtain(request) {
    const now = options.clock.now()
    const lifetime = Math.min(
      options.lifetime(),
      ...downstreamsOf(request).map((downstream) => downstream.lifetime ?? Infinity),
    )
    const expiresAt = toSeconds(Math.min(now + lifetime, request.notAfter)) * 1000
    const tokenId = randomText(options.random, 16)
    const [audience] = request.audiences
    const status = options.status?.next()
    const { confirmation } = request
    const isTransaction = request.requestedTokenType === TXN_TOKEN_TYPE
    const token = signJwt(
      options.keys,
      { typ: isTransaction ? 'txntoken+jwt' : 'at+jwt' },
      {
        iss: options.issuer(),
        sub: subjectOf(request),
        aud: request.audiences.length === 1 ? audience : request.audiences,
        client_id: request.server.server,
        tenant: request.principal.tenant,
        ...(request.scopes.length === 0 ? {} : { scope: request.scopes.join(' ') }),
        iat: toSeconds(now),
        exp: toSeconds(expiresAt),
        jti: tokenId,
        ...(isTransaction
          ? {
              txn: request.correlationId,
              req_wl: request.server.server,
              tctx: { tenant: request.principal.tenant, ...(request.tool === undefined ? {} : { tool: request.tool }) },
            }
          : {}),
        ...(confirmation === undefined ? {} : { cnf: confirmation }),
        ...(status === undefined
          ? {}
          : { status: { status_list: { idx: status.index, uri: options.status!.uriOf(status.list) } } }),
        ...(request.principal.kind === 'workload'
          ? {}
          : { act: nestActors([{ sub: request.server.server }, ...request.priorActors]) }),
        // Users may have the same id: no service takes one for the other.
        ...(request.principal.kind === 'agent' ? { agent: true } : {}),
        ...(request.ancestors.length === 0 ? {} : { anc: request.ancestors }),
      },
    )
    return Promise.resolve({
      token: new Secret(token),
      issuedTokenType: isTransaction ? TXN_TOKEN_TYPE : ACCESS_TOKEN_TYPE,
      tokenType: isTransaction ? 'N_A' : confirmation !== undefined && 'jkt' in confirmation ? 'DPoP' : 'Bearer',
      scopes: request.scopes,
      // Each call is a transaction of its own.
      ...(isTransaction ? { volatile: true as const } : {}),
      expiresAt,
      overScoped: false,
      tokenId,
      ...(status === undefined ? {} : { status: { ...status, iat: toSeconds(now) } }),
      auditNote: `Deputy minted a token for ${request.audiences.join(', ')}.`,
    })
  },
})
