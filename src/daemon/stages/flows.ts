/** The fifth stage: the lines. What listeners call is made here. */
import { createEndReplaced, endSealed } from '#credentials/connector'
import { createConnectFlow, createDeviceLogins } from '#flows/connect'
import {
  createAgentTokens,
  createExchange,
  Memo,
  createExecBegin,
  createIdentityAssertions,
  createServerView,
  createSubjectState,
  createTokenState,
} from '#flows/exchange'
import { createEndAgain, createRevoker } from '#flows/revocation'
import { createUpstreamFor, RedactionCache } from '#flows/injected-request'
import { withRotations } from '#flows/rotation'
import { createToolCalls } from '#flows/tool-call'
import { createProofs } from '#foundation/outbound'
import { createLiveSessionMonitor } from '#identity/validity'
import { createClientSecretCheck } from '#identity/workload'
import type { DaemonContext } from '../context.ts'
import type { Credentials } from './credentials.ts'
import type { Foundation } from './foundation.ts'
import type { Identity } from './identity.ts'
import type { Secrets } from './secrets.ts'

/** How long the revocation of a grant is remembered (ms): access tokens are cached for a day at most, and the grant itself is gone. */
const GRANT_MEMORY_MS = 31 * 86_400_000

/** Everything that the stages before have made. */
export type Made = Foundation & Secrets & Identity & Credentials

/** The line of a revocation, and what it is asked for by itself: after a loss of the store, and when a started program has ended. */
const createRevocations = (context: DaemonContext, made: Made) => {
  const { snapshot, clock, random, logger, newId, background } = context
  const { oauthGrant, leases, rotation, cache, isVoid, revocationsReturned, leasesLeft } = made
  const revoker = withRotations(
    createRevoker({
      ...made,
      snapshot,
      clock,
      random,
      logger,
      telemetry: context.observed.telemetry,
      upstream: oauthGrant,
      grantMemory: GRANT_MEMORY_MS,
      // The revocation stands by now: what it covers is what `RevocationIndex` says it covers.
      purge: () => cache.purge(isVoid),
    }),
    rotation,
    logger,
  )
  const endAgain = createEndAgain({
    store: made.store,
    snapshot,
    upstream: oauthGrant,
    sweepLeases: async () => {
      await leases.sweep()
    },
    logger,
  })
  revocationsReturned.to((revocations) => {
    background.start('what a revocation had ended was not ended again', endAgain(revocations))
  })
  leasesLeft.to((session, given) => {
    const orders = given.map((grant) =>
      revoker.revoke({
        scope: { kind: 'grant', grant },
        by: `exec session ${session.id}`,
        reason: 'the server that had it has ended',
        correlationId: newId(),
      }),
    )
    background.start('leases of an exec session that is over were not ended', Promise.all(orders))
  })
  return revoker
}

const createConnecting = (context: DaemonContext, made: Made) => {
  const { snapshot, clock, random, logger, background } = context
  const { oauthGrant, envelope, pagesUrl } = made
  const endReplaced = createEndReplaced({ upstream: oauthGrant, envelope })
  return createConnectFlow({
    ...made,
    policy: context.configuration.policy,
    snapshot,
    clock,
    random,
    logger,
    store: { ...made.store, sessions: made.sessions },
    endReplaced: (replaced, by) => {
      background.start('a grant that was replaced was not ended at its provider', endReplaced(replaced, by))
    },
    endSealed: (grant) => endSealed(oauthGrant, grant),
    baseUrl: () => pagesUrl,
  })
}

/** Calls of tools of APIs, with a way to the APIs of their own. */
const createCalls = (context: DaemonContext, { audit }: Made, exchange: ReturnType<typeof createExchange>) => {
  const { snapshot, clock, random, logger, settings, atEnd } = context
  const upstream = createUpstreamFor(settings)
  atEnd(() => upstream.close())
  const toolCalls = createToolCalls({
    snapshot,
    exchange,
    upstream,
    proofs: createProofs({ clock, random }),
    redactions: new RedactionCache(),
    audit,
    telemetry: context.observed.telemetry,
    logger,
    clock,
    chance: () => random.bytes(1)[0]! / 256,
  })
  atEnd(() => toolCalls.close())
  return toolCalls
}

const createDevices = ({ snapshot, clock, logger, newId, atEnd }: DaemonContext, made: Made) => {
  const store = { ...made.store, sessions: made.sessions }
  const deviceLogins = createDeviceLogins({ ...made, snapshot, clock, logger, newId, store })
  atEnd(() => {
    deviceLogins.close()
  })
  return deviceLogins
}

export const createFlows = (context: DaemonContext, made: Made) => {
  const { configuration, snapshot, clock, random, atEnd } = context
  const { policy } = configuration
  const { telemetry } = context.observed
  const { execSessions, checkouts, readMintedToken, signingKeys, store } = made
  const deps = { ...made, snapshot, policy, clock, random, telemetry }
  const liveSessions = createLiveSessionMonitor(deps)
  atEnd(() => {
    liveSessions.close()
  })
  const revoker = createRevocations(context, made)
  const checkSecret = createClientSecretCheck(random)
  const subjectState = createSubjectState({ ...deps, readMinted: readMintedToken })
  // A trace shows each step, so that none is looked up where traces are sent.
  const memo =
    context.settings.telemetry.otlp === null
      ? new Memo({ ...deps, exec: execSessions, countsUntil: made.subjects.countsUntil })
      : undefined
  const exchange = createExchange({ ...deps, exec: execSessions, checkOut: checkouts.checkOut, memo })
  return {
    liveSessions,
    revoker,
    connect: createConnecting(context, made),
    deviceLogins: createDevices(context, made),
    exchange,
    toolCalls: createCalls(context, made, exchange),
    serverView: createServerView({ ...deps, subjectState }),
    tokens: createTokenState({ ...deps, read: readMintedToken, subjectState, revoker }),
    beginExec: createExecBegin({ ...deps, sessions: execSessions, liveSessions }),
    redeem: createIdentityAssertions({
      ...deps,
      checkSecret,
      keys: signingKeys,
      replays: store.replays,
    }),
    issueAgentToken: createAgentTokens({
      ...deps,
      checkSecret,
      keys: signingKeys,
      replays: store.replays,
    }),
  }
}
export type Flows = ReturnType<typeof createFlows>
