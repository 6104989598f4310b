import type { KoaContextWithOIDC } from 'oidc-provider'
import { asDeputyError } from '#errors'
import type { AuditLog } from '#foundation/audit'
import type { Rates } from '#foundation/cache'
import { assertClientPermitted, type ClientPolicyDependencies } from '#flows/connect'
import { assertStillValid, dependenciesOfSignIn, type ValidityDependencies } from '#identity/validity'
import type { ClientSessions, ClientSignIn } from '#identity/client'
import { signInOf } from './provider.ts'
import { answerRefusal } from './refusal.ts'
import { shownScopes } from './scopes.ts'
import { writesIn } from './token-writes.ts'

export interface TokenDependencies extends ValidityDependencies, ClientPolicyDependencies {
  readonly audit: AuditLog
  readonly clientSessions: Pick<ClientSessions, 'used'>
  readonly rates: Pick<Rates, 'admit' | 'isRepeated'>
}

const scopesIn = (body: unknown): string[] => {
  const scope = typeof body === 'object' && body !== null && 'scope' in body ? body.scope : undefined
  return typeof scope === 'string' ? shownScopes(scope.split(' ')) : []
}

/** A request that named no code, token or device of Deputy's leaves no record: the endpoint is public, and anyone could fill the log. */
const recordOf = (context: KoaContextWithOIDC) => {
  const { account, entities, params, client } = context.oidc
  const signIn = signInOf(context)
  if (account === undefined || signIn === undefined) return undefined
  const { id: session, tenant, user, server } = signIn
  return {
    id: String(context.state['correlationId']),
    event: 'client.token' as const,
    tenant,
    user,
    server,
    detail: {
      client: client?.clientId,
      session,
      grant_type: params?.['grant_type'],
      ...(entities.AccessToken === undefined ? {} : { token: entities.AccessToken.jti }),
    },
  }
}

type TokenRecord = NonNullable<ReturnType<typeof recordOf>>

/** Asks policy before the token is recorded as issued, and records a refusal. @throws DeputyError `client_denied` and others */
const assertPermitted = async (
  deps: TokenDependencies,
  record: TokenRecord,
  signIn: ClientSignIn,
  scopes: readonly string[],
): Promise<void> => {
  try {
    assertClientPermitted(deps, signIn, scopes)
  } catch (thrown) {
    const { code, message } = asDeputyError(thrown)
    await deps.audit.append({ ...record, outcome: 'refused', detail: { ...record.detail, error: { code, message } } })
    throw thrown
  }
}

/**
 * Makes the record of a token answer durable, asks once more whether all of it is valid, and only then lets it go (promises 3 and
 * 4). A refusal of what was known is recorded as well.
 */
export const recordTokens = async (deps: TokenDependencies, context: KoaContextWithOIDC): Promise<void> => {
  const record = recordOf(context)
  const signIn = signInOf(context)
  if (record === undefined || signIn === undefined) {
    // What is issued without a sign-in is not of this room, and must not leave it.
    if (context.status === 200) answerRefusal(context, new Error('a token without a sign-in'))
    return
  }
  const body = context.body as { error?: string; error_description?: string; scope?: string }
  if (context.status !== 200) {
    const { error: code, error_description: message } = body
    await deps.audit.append({ ...record, outcome: 'refused', detail: { ...record.detail, error: { code, message } } })
    return
  }
  try {
    const scopes = scopesIn(body)
    await deps.rates.admit('server', [signIn.server])
    await deps.rates.admit('tenant', [signIn.tenant])
    await deps.rates.admit('user', [signIn.tenant, signIn.user])
    await assertPermitted(deps, record, signIn, scopes)
    const writes = await writesIn(context)
    await deps.audit.append({ ...record, outcome: 'issued', detail: { ...record.detail, scopes } }, writes)
    await deps.clientSessions.used(signIn.id)
    assertStillValid(dependenciesOfSignIn(signIn), deps)
    const { scope: _, ...rest } = body
    context.body = { ...rest, ...(scopes.length === 0 ? {} : { scope: scopes.join(' ') }) }
  } catch (error) {
    answerRefusal(context, error)
  }
}
