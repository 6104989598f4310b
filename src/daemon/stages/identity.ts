/** The third stage: which server calls, and for which user. */
import {
  createClaimWatch,
  createIntrospection,
  createIssuerKeys,
  createIssuerMetadata,
  createMintedTokenReader,
  createNameRecorder,
  createSubjectVerifier,
  createUserDirectory,
  type WatchClaims,
} from '#identity/subject'
import {
  createAttestor,
  createPeers,
  createProofCheck,
  createResourceProofCheck,
  type ProofCheckOptions,
  registryOf,
} from '#identity/workload'
import { paths, tcpHosts } from '#listeners/http'
import type { DaemonContext } from '../context.ts'
import type { Foundation } from './foundation.ts'
import type { Secrets } from './secrets.ts'

/** Under which name it is remembered that an issuer names sessions, and for how long (ms). */
const [NAMES_SESSIONS, ISSUER_MEMORY_MS] = ['names sessions', 400 * 86_400_000]

type SessionIssuer = { readonly tenant: string; readonly issuer: string }

/** Which issuers name sessions is remembered for all nodes: the events about them may arrive at another one. */
const rememberSessionIssuers = ({ clock, background }: DaemonContext, { store }: Foundation) => {
  const named = new Set<string>()
  const keyOf = ({ tenant, issuer }: SessionIssuer): string => JSON.stringify([tenant, issuer])
  return {
    sessionNamed(of: SessionIssuer): void {
      const key = keyOf(of)
      if (named.has(key)) return
      named.add(key)
      background.start(
        'that an issuer names sessions was not written down',
        store.replays.claim(NAMES_SESSIONS, key, clock.now() + ISSUER_MEMORY_MS),
      )
    },
    async namesSessions(of: SessionIssuer): Promise<boolean> {
      const key = keyOf(of)
      return named.has(key) || (await store.replays.has(NAMES_SESSIONS, key, clock.now()))
    },
  }
}

/** What is seen of a user's claims: groups that cannot be read are told, and a display name is remembered for commands. */
const watchUsers = ({ clock, logger, background }: DaemonContext, { store, fingerprint }: Foundation): WatchClaims => {
  const watchGroups = createClaimWatch({ logger })
  const recordName = createNameRecorder({
    names: store.userNames,
    fingerprint,
    clock,
    inBackground: (work) => {
      background.start('the name of a user was not written down', work)
    },
  })
  return (...seen) => {
    watchGroups(...seen)
    recordName(...seen)
  }
}

export const createIdentity = (context: DaemonContext, foundation: Foundation, secrets: Secrets) => {
  const { settings, snapshot, clock, random } = context
  const { telemetry } = context.observed
  const { store, egress, fingerprint, signingKeys, sessions, clientSessions } = foundation
  const issuer = (): string => settings.issuer
  const metadata = createIssuerMetadata({ egress, clock })
  const issuerKeys = createIssuerKeys({ egress, clock, metadata })
  const { tcp } = settings.listen
  const tcpBases = tcp === null ? [] : [...tcpHosts(tcp.port)].map((host) => `http://${host}`)
  const tokenUrlOf = (base: string): string => `${base.replace(/\/$/, '')}${paths.token}`
  const readMintedToken = createMintedTokenReader({ keys: signingKeys, issuer, clock })
  const watchClaims = watchUsers(context, foundation)
  const sessionIssuers = rememberSessionIssuers(context, foundation)
  const proofs: ProofCheckOptions = {
    needsNonce: () => snapshot().settings.tokens.dpop_nonce,
    replays: store.replays,
    fingerprint,
    clock,
  }
  const audiences = (): string[] => [issuer(), tokenUrlOf(issuer())]
  return {
    issuer,
    audiences,
    issuerKeys,
    readMintedToken,
    watchClaims,
    users: createUserDirectory({ names: store.userNames, fingerprint }),
    namesSessions: sessionIssuers.namesSessions,
    peers: createPeers(() => registryOf(snapshot()).wants),
    attest: createAttestor({
      exec: secrets.execSessions,
      clusterKeys: (cluster) => issuerKeys({ issuer: cluster }),
      replays: store.replays,
      unknownCallers: store.unknownCallers,
      clock,
      random,
      telemetry,
      audiences,
      // To a client that has discovered the port, its address is the issuer.
      localAudiences: tcpBases.flatMap((base) => [base, tokenUrlOf(base)]),
    }),
    checkProof: createProofCheck({
      ...proofs,
      urls: () => [issuer(), 'http://localhost', ...tcpBases].map(tokenUrlOf),
    }),
    checkResourceProof: createResourceProofCheck(proofs),
    subjects: createSubjectVerifier({
      watchClaims,
      snapshot,
      keys: issuerKeys,
      introspect: createIntrospection({
        egress,
        clock,
        metadata,
        resolveSecret: secrets.resolveSecret,
        fingerprint,
      }),
      sessions,
      clientSessions,
      readMintedToken,
      ownIssuer: issuer,
      fingerprint,
      sessionNamed: sessionIssuers.sessionNamed,
      clock,
      telemetry,
    }),
  }
}
export type Identity = ReturnType<typeof createIdentity>
