import { toSeconds } from '#clock'
import type { Downstream } from '#config'
import { refuse } from '#errors'
import type { CheckoutProcess } from '#flows/rotation'
import type { ProofKey, Secret } from '#foundation/crypto'
import { assertStillValid, type CredentialDependencies } from '#identity/validity'
import { isBound } from './authorize-request.ts'
import { dependenciesOf, type ExchangeDependencies, type Proved } from './context.ts'
import { allowInjection, type AllowedInjection } from './injection.ts'
import { idsOf } from './target.ts'

/** A successful answer of the token endpoint, before it becomes JSON (RFC 8693 section 2.2.1). */
export interface IssuedToken {
  readonly token: Secret
  readonly issuedTokenType: string
  readonly tokenType: 'Bearer' | 'DPoP' | 'N_A'
  /** Seconds. */
  readonly expiresIn: number
  readonly scopes: readonly string[]
  /** What the token is limited to, besides its scopes (RFC 9396 section 7). */
  readonly authorizationDetails?: readonly object[]
  /** Further members of the answer, which the provider's file lets through. */
  readonly fields?: Readonly<Record<string, string>>
  /** A warning for the caller, such as the server's being deprecated. */
  readonly warning?: string
  /**
   * For a request of the proxy: where the credential goes, how it is put in, the key to be proved with it, and whether
   * it still may be used: what it has opened may stay open for long. `assertStands` throws why not.
   */
  readonly injection?: AllowedInjection & { readonly proofKey?: ProofKey; stands(): boolean; assertStands(): void }
}

/** What Deputy logs in with for a program that is connected through it, and what the connection relies on. */
export interface OpenedConnection {
  readonly token: Secret
  /** Of the credential (ms since the epoch). */
  readonly expiresAt: number
  /** When what the connection relies on ends by itself: the user's session. */
  readonly notAfter: number
  readonly downstream: Downstream
  readonly dependsOn: CredentialDependencies
  /** Who is written down as having the credential, until the login is done. */
  readonly holder: CheckoutProcess & { readonly process: string }
  /** The lease that the connection lives on. */
  readonly lease?: string
}

/** What everything that was proved relies on. */
export const dependenciesOfProved = (proved: Proved): CredentialDependencies =>
  dependenciesOf({ ...proved, target: proved.authorized.target })

/**
 * Whether all that was proved is still so: the record may have waited for the disk, and a provider before that.
 * @throws DeputyError `membership_lost`, `revoked`, `exec_session_over`, and what says that files do not allow it any more
 */
export const assertProvedValid = (deps: ExchangeDependencies, proved: Proved): void => {
  const { context, caller, authorized } = proved
  const { generation, wish } = context
  assertStillValid(dependenciesOfProved(proved), deps, generation)
  const { session, server } = caller.workload
  if (session !== undefined && !deps.exec.isLive(session))
    throw refuse('exec_session_over', { server: server.server, problem: 'it ended meanwhile' })
  const current = deps.snapshot()
  if (current.generation === generation) return
  const { target, injection } = authorized
  for (const now of idsOf(target).flatMap((id) => current.downstreams.get(id) ?? []))
    allowInjection(
      now,
      wish.injection === undefined ? undefined : { ...wish.injection, origin: injection?.origin },
      isBound(now, current),
    )
}

const stands = (deps: ExchangeDependencies, proved: Proved): boolean => {
  try {
    assertProvedValid(deps, proved)
    return true
  } catch {
    return false
  }
}

/** Step 5, for a token request: the answer. Its audit record is durable. */
export const issueToken = (deps: ExchangeDependencies, proved: Proved): IssuedToken => {
  const { context, caller, beneficiary, authorized, obtained } = proved
  const { credential } = obtained
  const { warning } = caller.workload
  const endsAt = Math.min(credential.expiresAt, beneficiary.notAfter)
  return {
    token: credential.token,
    issuedTokenType: context.wish.requestedTokenType ?? credential.issuedTokenType,
    tokenType: credential.tokenType,
    scopes: credential.scopes,
    expiresIn: Math.max(0, toSeconds(endsAt - deps.clock.now())),
    ...(credential.fields === undefined ? {} : { fields: credential.fields }),
    ...(warning === undefined ? {} : { warning }),
    ...(authorized.injection === undefined
      ? {}
      : {
          injection: {
            ...authorized.injection,
            ...(credential.proofKey === undefined ? {} : { proofKey: credential.proofKey }),
            stands: () => stands(deps, proved),
            assertStands: () => {
              assertProvedValid(deps, proved)
            },
          },
        }),
  }
}

const userOf = ({ principal }: Proved['beneficiary']): string | null =>
  principal.kind === 'user' ? principal.user : null

/** Step 5, for a connection: what to log in with. @param holder the name under which the credential is held */
export const issueConnection = (proved: Proved, holder: string): OpenedConnection => {
  const { caller, beneficiary, authorized, obtained } = proved
  const { credential } = obtained
  const { target } = authorized
  return {
    token: credential.token,
    expiresAt: credential.expiresAt,
    notAfter: beneficiary.notAfter,
    downstream: target.downstreams[0],
    dependsOn: dependenciesOfProved(proved),
    holder: { server: caller.workload.server.server, user: userOf(beneficiary), process: holder },
    ...(target.kind === 'dynamic' && credential.grant !== undefined ? { lease: credential.grant } : {}),
  }
}
