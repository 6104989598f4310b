import { z } from 'zod'
import { onOneLine } from '#foundation/text'
import { tellAgentToken } from './explain-agent.ts'
import { downstreamsOfRecord } from './record.ts'

/** One record as `deputy audit` and `deputy explain` get it. */
export const recordViewSchema = z.looseObject({
  seq: z.number(),
  at: z.number(),
  id: z.string(),
  event: z.string(),
  outcome: z.string(),
  tenant: z.string().nullable(),
  user: z.string().nullable(),
  server: z.string().nullable(),
  downstream: z.string().nullable(),
  record: z.looseObject({ detail: z.looseObject({}).default({}) }),
})
export type RecordView = z.output<typeof recordViewSchema>

/** Each key by itself: one of an unexpected shape is left out, and the rest of the story is told. */
const part = <Schema extends z.ZodType>(schema: Schema) => schema.optional().catch(undefined)
const texts = z.array(z.string())

const detailSchema = z.looseObject({
  attestation: part(
    z.looseObject({
      method: part(z.string()),
      claimed: part(z.string().nullable()),
      warning: part(z.string()),
      uid: part(z.number()),
      pid: part(z.number()),
      exe: part(z.string()),
    }),
  ),
  subject: part(z.looseObject({ issuer: part(z.string()), how: part(z.string()), token: part(z.string()) })),
  asked: part(
    z.looseObject({ scopes: part(texts), audience: part(texts), resource: part(texts), tool: part(z.string()) }),
  ),
  injected: part(z.looseObject({ host: part(z.string()), method: part(z.string()) })),
  host: part(z.string()),
  decision: part(
    z.looseObject({ allowed: part(z.boolean()), policies: part(texts), scopes: part(texts), errors: part(texts) }),
  ),
  credential: part(
    z.looseObject({
      kind: part(z.string()),
      scopes: part(texts),
      expires_at: part(z.number().min(0).max(8.64e15)),
      over_scoped: part(z.boolean()),
      /** The name of `over_scoped` in records of the earlier version. */
      wider: part(z.boolean()),
      cached: part(z.boolean()),
      token_id: part(z.string()),
      grant: part(z.string()),
    }),
  ),
  error: part(
    z.looseObject({
      code: part(z.string()),
      message: part(z.string()),
      next: part(z.string()),
      facts: part(z.looseObject({ answered: part(z.string()), details: part(z.string()) })),
    }),
  ),
  grants: part(z.array(z.looseObject({ grant: part(z.string()), upstream: part(z.string()) }))),
  problems: part(z.array(z.unknown())),
  hidden: part(z.array(z.looseObject({ tool: part(z.string()), problem: part(z.string()), policies: part(texts) }))),
  scopes: part(texts),
  granted: part(texts),
  restart_needed: part(z.union([z.boolean(), texts])),
  story: part(z.string()),
  by: part(z.string()),
  scope: part(z.string()),
  reason: part(z.string().nullable()),
  status: part(z.string()),
  provider: part(z.string()),
  grant: part(z.string()),
  opened_by: part(z.string()),
  issuer: part(z.string()),
  secret: part(z.string()),
  keys: part(z.string()),
  version: part(z.union([z.string(), z.number()])),
  problem: part(z.string()),
  what: part(z.string()),
  missing: part(z.array(z.looseObject({ node: z.string(), seq: z.number() }))),
  recorded: part(z.string()),
  token_id: part(z.string()),
  active: part(z.boolean()),
  uid: part(z.number()),
  pid: part(z.number()),
  child: part(z.number()),
  session: part(z.string()),
  resumed: part(z.boolean()),
  generation: part(z.number()),
  versions: part(z.number()),
  record: part(z.number()),
  cached: part(z.number()),
  consents: part(z.number()),
  sessions: part(z.number()),
  milliseconds: part(z.number()),
})
type Detail = z.output<typeof detailSchema>

const time = (at: number): string => new Date(at).toISOString()
const named = (scopes: readonly string[] | undefined): string =>
  scopes === undefined || scopes.length === 0 ? 'no scopes' : scopes.join(' ')
const when = <T>(value: T | undefined | null, sentence: (value: T) => string): string =>
  value === undefined || value === null ? '' : sentence(value)
const counted = (count: number, one: string): string => `${count} ${one}${count === 1 ? '' : 's'}`

const tellAttestation = ({ server }: RecordView, { attestation }: Detail): string[] => {
  if (attestation === undefined) return []
  const { claimed, method, warning, uid, pid, exe } = attestation
  const process = uid === undefined ? '' : ` It is process ${pid} of uid ${uid}${when(exe, (path) => ` (${path})`)}.`
  if (server === null)
    return [`The caller was not recognised${when(claimed, (id) => `; it claimed to be ${id}`)}.${process}`]
  return [
    `${server} asked; it proved who it is by ${method ?? 'nothing that was recorded'}.${process}`,
    ...(warning === undefined ? [] : [warning]),
  ]
}

const HOW: Record<string, string> = {
  jwt: 'a signed token',
  introspection: 'an opaque token that the issuer confirmed',
  login_session: 'the session of the Unix user',
}

const tellSubject = ({ user, tenant }: RecordView, { subject }: Detail): string[] =>
  subject === undefined
    ? []
    : [
        `It acted for ${user} of ${tenant}, by ${HOW[subject.how ?? ''] ?? subject.how ?? 'a token'} from ${subject.issuer}${when(subject.token, (token) => ` (fingerprint ${token})`)}.`,
      ]

const describeRequest = ({ downstream }: RecordView, { asked }: Detail): string[] => {
  if (asked === undefined) return []
  const known = downstreamsOfRecord({ downstream })
  const target =
    known.length > 0 ? known.join(' and ') : [...(asked.audience ?? []), ...(asked.resource ?? [])].join(', ')
  return [
    `It asked for ${asked.scopes === undefined ? 'all of its scopes' : named(asked.scopes)} at ${target || 'no downstream'}${when(asked.tool, (tool) => ` for the tool ${tool}`)}.`,
  ]
}

const tellDecision = ({ decision }: Detail): string[] => {
  if (decision?.allowed === undefined) return []
  const { allowed, policies = [], scopes, errors = [] } = decision
  const by = policies.length === 0 ? 'no policy permits it' : `decided by ${policies.join(', ')}`
  return [
    allowed ? `Policy allowed ${named(scopes)} (${by}).` : `Policy denied it (${by}).`,
    ...errors.map((error) => `A policy could not be evaluated: ${error}`),
  ]
}

const tellInjection = ({ injected }: Detail): string[] =>
  injected === undefined
    ? []
    : [
        `It was for the proxy, to be put into a ${injected.method ?? ''} request${when(injected.host, (host) => ` to ${host}`)}: the caller does not see it.`,
      ]

const tellCredential = ({ credential }: Detail): string[] => {
  if (credential === undefined) return []
  const { kind, scopes, cached, over_scoped: overScoped, wider, expires_at: end, token_id: token, grant } = credential
  return [
    `A credential${when(kind, (name) => ` (${name})`)} with ${named(scopes)} was issued${cached === true ? ' from the cache' : ''}${(overScoped ?? wider) === true ? ', more than requested because the provider cannot narrow it' : ''}${when(end, (at) => `; it ends at ${time(at)}`)}.`,
    ...(grant === undefined ? [] : [`It comes from the grant ${grant}.`]),
    ...(token === undefined ? [] : [`Its token id is ${token}; deputy revoke --token ${token} ends it.`]),
  ]
}

const tellRevocation = (
  _: RecordView,
  { scope, reason, grants = [], cached = 0, consents = 0, sessions = 0, by }: Detail,
): string[] => {
  const outcomes = Map.groupBy(grants, ({ upstream }) => upstream ?? 'unknown')
  return [
    `Revoked: ${scope}${when(by, (who) => ` by ${who}`)}${when(reason, (why) => ` (${why})`)}. ${counted(grants.length, 'grant')}, ${counted(consents, 'consent')}, ${counted(sessions, 'session')} and ${counted(cached, 'cached credential')} ended.`,
    ...[...outcomes].map(([outcome, those]) => `At the provider: ${outcome} for ${counted(those.length, 'grant')}.`),
  ]
}

type Teller = (record: RecordView, detail: Detail) => string[]

/** What the records say that are no token requests. */
const EVENTS: Readonly<Record<string, Teller>> = {
  'connect.start': ({ user, server, downstream }) => [
    `${user} opened the link to connect ${downstream} for ${server}.`,
  ],
  'connect.consent': ({ user, server, downstream, outcome }, { asked, granted }) => [
    outcome === 'done'
      ? `${user} allowed ${server} ${named(granted)} at ${downstream}; the page had offered ${named(asked?.scopes)}.`
      : `${user} did not allow ${server} to use ${downstream}.`,
  ],
  'connect.complete': ({ user, server, downstream, outcome }, { grant, scopes, provider }) =>
    outcome === 'done'
      ? [
          `${provider ?? downstream} gave ${named(scopes)}: ${user} is connected to ${downstream} for ${server}${when(grant, (id) => ` (grant ${id})`)}.`,
        ]
      : [`The connection of ${user} to ${downstream} was not completed.`],
  'connect.refused': ({ user, server, downstream }, { opened_by: other }) => [
    `The link for ${user} to connect ${downstream} for ${server} was refused${when(other, (who) => `: ${who} had opened it`)}.`,
  ],
  'connect.failed': () => ['A connect page failed, and the user was told to ask for this id.'],
  'token.agent': tellAgentToken,
  'grant.refresh': ({ outcome, user, downstream }, { status, provider }) => [
    `The grant of ${user} for ${downstream} was ${outcome === 'done' ? 'refreshed' : 'not refreshed'}${when(provider, (name) => ` at ${name}`)}${when(status, (now) => `; it is now ${now}`)}.`,
  ],
  login: ({ user, tenant, outcome }, { uid, issuer }) => [
    `${user} of ${tenant} ${outcome === 'done' ? 'signed in' : 'could not sign in'}${when(issuer, (name) => ` at ${name}`)}${when(uid, (id) => ` for the Unix user ${id}`)}.`,
  ],
  'proxy.connect': ({ server }, { host }) => [
    `${server} asked the proxy for a tunnel${when(host, (origin) => ` to ${origin}`)}.`,
  ],
  'exec.begin': ({ server, user, outcome }, { attestation, child, session, resumed }) => [
    `The Unix user ${attestation?.uid} started ${server}${when(user, (name) => ` for ${name}`)} as process ${child}${outcome === 'done' ? `: session ${session}${resumed === true ? ', which goes on from before the daemon was started' : ''}` : ', and was refused'}.`,
  ],
  'exec.end': ({ server }, { child, error }) => [
    `The session of ${server} (process ${child}) ended${when(error?.code, (code) => `: ${code}`)}.`,
  ],
  'connection.fail': ({ server, downstream }) => [
    `The connection of ${server} to ${downstream} came to nothing after the credential had been obtained.`,
  ],
  revocation: tellRevocation,
  'token.revoke': tellRevocation,
  'token.introspect': ({ server }, { active, token_id: token, hidden = [] }) => [
    `${server} asked whether a token is live${when(token, (id) => ` (${id})`)}: it is${active === true ? '' : ' not, or it was not issued for that server'}.`,
    ...hidden.map(
      ({ tool, problem, policies = [] }) =>
        `The tool ${tool} is hidden from this user: ${problem}${policies.length === 0 ? '' : ` Decided by ${policies.join(', ')}.`}`,
    ),
  ],
  'key.rotate': (_, { keys, by }) => [`The ${keys ?? ''} keys were rotated${when(by, (who) => ` by ${who}`)}.`],
  'secret.set': ({ tenant }, { secret, version, by }) => [
    `The secret ${secret} of ${tenant} was set${when(by, (who) => ` by ${who}`)}${when(version, (number) => `; this is version ${number}`)}.`,
  ],
  'secret.remove': ({ tenant }, { secret, versions, by }) => [
    `The secret ${secret} of ${tenant} was removed${when(by, (who) => ` by ${who}`)}${when(versions, (count) => ` with ${counted(count, 'version')}`)}.`,
  ],
  'config.reload': ({ outcome }, { generation, problems = [], restart_needed: restart }) => [
    outcome === 'done'
      ? `The configuration was read again${when(generation, (number) => ` and is generation ${number}`)}.`
      : `Reload rejected (${counted(problems.length, 'problem')}); the daemon kept the current configuration.`,
    ...(restart === true || (Array.isArray(restart) && restart.length > 0)
      ? ['Some of it is in force after a restart only.']
      : []),
  ],
  'workload.unknown': () => ['No registered server matches the caller; deputy server unknown lists it.'],
  'user.disable': ({ user, tenant }, { by }) => [
    `${user} of ${tenant} was disabled${when(by, (who) => ` by ${who}`)}.`,
  ],
  'user.enable': ({ user, tenant }, { by }) => [`${user} of ${tenant} was enabled${when(by, (who) => ` by ${who}`)}.`],
  'daemon.start': (_, { version, pid }) => [
    `Deputy${when(version, (number) => ` ${number}`)} started${when(pid, (id) => ` as process ${id}`)}.`,
  ],
  'tenant.freeze': ({ tenant }, { by, reason }) => [
    `${tenant} was frozen${when(by, (who) => ` by ${who}`)}${when(reason, (text) => ` (${text})`)}.`,
  ],
  'tenant.thaw': ({ tenant }, { by }) => [`${tenant} was thawed${when(by, (who) => ` by ${who}`)}.`],
  'audit.acknowledge': (_, { by, reason, missing = [] }) => [
    `Missing signed records were acknowledged${when(by, (who) => ` by ${who}`)}${when(reason, (text) => ` (${text})`)}: ${missing.map(({ node, seq }) => `record ${seq} of the node ${node}`).join(', ')}.`,
  ],
  'order.restored': (_, { what, problem }) => [
    `An order was restored at the start of the daemon${when(what, (order) => `: ${order}`)}${when(problem, (cause) => ` (${cause})`)}.`,
  ],
  'daemon.stop': (_, { pid }) => [`Deputy stopped${when(pid, (id) => ` (process ${id})`)}.`],
  'audit.unconfirmed': (_, { record, recorded, problem }) => [
    `Record ${record} (${recorded}) was not confirmed in time, so the caller got an error and no credential, whatever that record says; a change by an admin can be in force: ${problem}.`,
  ],
}

const tellEvent = (record: RecordView, detail: Detail): string[] => {
  const tell = Object.hasOwn(EVENTS, record.event) ? EVENTS[record.event] : undefined
  if (tell !== undefined) return tell(record, detail)
  const lines = [
    ...tellAttestation(record, detail),
    ...tellSubject(record, detail),
    ...describeRequest(record, detail),
    ...tellInjection(detail),
    ...tellDecision(detail),
  ]
  return lines.length > 0 ? lines : [`${record.event}: ${record.outcome}${when(detail.by, (who) => ` by ${who}`)}.`]
}

const tellEnd = ({ error, milliseconds }: Detail): string[] => [
  ...(error === undefined
    ? []
    : [
        `Refused (${error.code}): ${error.message}`,
        ...(error.facts?.answered === undefined ? [] : [`What was answered: ${error.facts.answered}`]),
        ...(error.facts?.details === undefined ? [] : [error.facts.details]),
        ...(error.next === undefined ? [] : [`What to do: ${error.next}`]),
      ]),
  ...(milliseconds === undefined ? [] : [`It took ${milliseconds} ms.`]),
]

/** The records of one correlation id as sentences, in the order in which it happened. */
export const explain = (records: readonly RecordView[]): string[] =>
  records.flatMap((record) => {
    const detail = detailSchema.safeParse(record.record.detail).data ?? {}
    const { story } = detail
    return [
      `${time(record.at)} ${record.event} (record ${record.seq})`,
      ...[
        ...tellEvent(record, detail),
        ...(story === undefined ? [] : [story]),
        ...tellCredential(detail),
        ...tellEnd(detail),
      ].map((line) => `  ${line}`),
    ].map(onOneLine)
  })
