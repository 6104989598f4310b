import { z } from 'zod'

/** One record as `deputy audit` and `deputy explain` get it. */
export const recordViewSchema = z.looseObject({
  seq: z.number(), at: z.number(), id: z.string(), event: z.string(), outcome: z.string(),
  tenant: z.string().nullable(), user: z.string().nullable(), server: z.string().nullable(), downstream: z.string().nullable(),
  record: z.looseObject({ detail: z.looseObject({}).default({}) }),
})
export type RecordView = z.output<typeof recordViewSchema>

const detailSchema = z.looseObject({
  attestation: z.looseObject({ method: z.string(), claimed: z.string().nullable(), warning: z.string(), uid: z.number(), pid: z.number(), exe: z.string() }).partial().optional(),
  subject: z.looseObject({ issuer: z.string(), how: z.string(), token: z.string() }).partial().optional(),
  asked: z.looseObject({ scopes: z.array(z.string()), audience: z.array(z.string()), resource: z.array(z.string()), tool: z.string() }).partial().optional(),
  decision: z.looseObject({ allowed: z.boolean(), policies: z.array(z.string()), scopes: z.array(z.string()) }).partial().optional(),
  credential: z.looseObject({ kind: z.string(), scopes: z.array(z.string()), expires_at: z.number(), wider: z.boolean(), cached: z.boolean() }).partial().optional(),
  story: z.string().optional(),
  error: z.looseObject({ code: z.string(), message: z.string(), next: z.string() }).partial().optional(),
  milliseconds: z.number().optional(),
  by: z.string().optional(),
  scope: z.string().optional(),
  grants: z.array(z.looseObject({ upstream: z.string() })).optional(),
})
type Detail = z.output<typeof detailSchema>

const time = (at: number): string => new Date(at).toISOString()
const named = (scopes: readonly string[] | undefined): string => scopes === undefined || scopes.length === 0 ? 'no scopes' : scopes.join(' ')

const tellAttestation = ({ server }: RecordView, { attestation }: Detail): string[] => {
  if (attestation === undefined) return []
  const process = attestation.uid === undefined ? '' : ` It is process ${attestation.pid} of uid ${attestation.uid}${attestation.exe === undefined ? '' : ` (${attestation.exe})`}.`
  if (server === null) return [`The caller was not recognised${attestation.claimed == null ? '' : `; it claimed to be ${attestation.claimed}`}.${process}`]
  return [`${server} asked; it proved who it is by ${attestation.method ?? 'nothing that was recorded'}.${process}`, ...(attestation.warning === undefined ? [] : [attestation.warning])]
}

const HOW: Record<string, string> = { jwt: 'a signed token', introspection: 'an opaque token that the issuer confirmed', login_session: 'the session of the Unix user' }

const tellSubject = ({ user, tenant }: RecordView, { subject }: Detail): string[] =>
  subject === undefined ? [] : [`It acted for ${user} of ${tenant}, by ${HOW[subject.how ?? ''] ?? subject.how} from ${subject.issuer} (fingerprint ${subject.token}).`]

const tellWish = ({ downstream }: RecordView, { asked }: Detail): string[] => {
  if (asked === undefined) return []
  const target = downstream ?? [...asked.audience ?? [], ...asked.resource ?? []].join(', ')
  return [`It asked for ${asked.scopes === undefined ? 'all of its scopes' : named(asked.scopes)} at ${target || 'no downstream'}${asked.tool === undefined ? '' : ` for the tool ${asked.tool}`}.`]
}

const tellDecision = ({ decision }: Detail): string[] => {
  if (decision === undefined) return []
  const by = decision.policies === undefined || decision.policies.length === 0 ? 'no policy permits it' : `decided by ${decision.policies.join(', ')}`
  return [decision.allowed === true ? `Policy allowed ${named(decision.scopes)} (${by}).` : `Policy denied it (${by}).`]
}

const tellOutcome = (record: RecordView, { credential, story, error, milliseconds, by, scope, grants }: Detail): string[] => {
  const lines: string[] = []
  if (story !== undefined) lines.push(story)
  if (credential !== undefined) {
    lines.push(`A credential (${credential.kind}) with ${named(credential.scopes)} was issued${credential.cached === true ? ' from the cache' : ''}${credential.wider === true ? ', wider than asked because the provider cannot narrow it' : ''}; it ends at ${time(credential.expires_at ?? 0)}.`)
  }
  if (scope !== undefined) lines.push(`Revoked: ${scope}${by === undefined ? '' : ` by ${by}`}${grants === undefined ? '' : `, ${grants.length} grant(s)`}.`)
  if (error !== undefined) lines.push(`Refused (${error.code}): ${error.message}`, `What to do: ${error.next}`)
  else if (credential === undefined && scope === undefined) lines.push(`${record.event}: ${record.outcome}${by === undefined ? '' : ` by ${by}`}.`)
  if (milliseconds !== undefined) lines.push(`It took ${milliseconds} ms.`)
  return lines
}

/** The records of one correlation id as sentences, in the order in which it happened. */
export const explain = (records: readonly RecordView[]): string[] => records.flatMap((record) => {
  const detail = detailSchema.safeParse(record.record.detail).data ?? {}
  return [
    `${time(record.at)} ${record.event} (record ${record.seq})`,
    ...[...tellAttestation(record, detail), ...tellSubject(record, detail), ...tellWish(record, detail), ...tellDecision(detail), ...tellOutcome(record, detail)].map((line) => `  ${line}`),
  ]
})
