import type { AuditRow } from '#foundation/store'

/** Where the records come from. */
export interface Origin {
  readonly node: string
  readonly environment: string
}

/** How the fields of a record are called at the receiver. */
export type FieldNames = 'ecs' | 'deputy'

/** The version of the Elastic Common Schema whose names are used: https://www.elastic.co/docs/reference/ecs */
const ECS_VERSION = '8.17.0'

interface Categories {
  readonly category: readonly string[]
  readonly type: readonly string[]
}

const of = (category: string, ...type: readonly string[]): Categories => ({ category: [category], type })

/**
 * https://www.elastic.co/docs/reference/ecs/ecs-category-field-values-reference: by the name of an event, or its
 * beginning.
 */
const CATEGORIES: readonly (readonly [begin: string, categories: Categories])[] = [
  ['config.reload', of('configuration', 'change')],
  ['connection.open', of('session', 'start')],
  ['connection.fail', of('session', 'end')],
  ['daemon.start', of('process', 'start')],
  ['daemon.stop', of('process', 'end')],
  ['exec.begin', of('session', 'start')],
  ['exec.end', of('session', 'end')],
  ['lease.begin', of('session', 'start')],
  ['lease.end', of('session', 'end')],
  ['proxy.', of('api', 'access')],
  ['tool.', of('api', 'access')],
  ['client.change', of('iam', 'admin', 'change')],
  ['client.', of('iam', 'admin', 'info')],
  ['user.', of('iam', 'user', 'change')],
  ['tenant.', of('iam', 'admin', 'change')],
  ['revocation', of('iam', 'admin', 'change')],
  ['order.', of('iam', 'admin', 'change')],
  ['secret.remove', of('iam', 'admin', 'deletion')],
  ['secret.', of('iam', 'admin', 'change')],
  ['key.', of('iam', 'admin', 'change')],
  ['rotation.', of('iam', 'admin', 'change')],
  ['store.', of('database', 'info')],
  ['audit.', of('database', 'info')],
  ['token.', of('authentication', 'info')],
  ['grant.', of('authentication', 'info')],
  ['connect.', of('authentication', 'info')],
  ['login', of('authentication', 'info')],
  ['signal.', of('authentication', 'info')],
  ['workload.', of('authentication', 'info')],
]

const categoriesOf = (event: string): Categories | undefined =>
  CATEGORIES.find(([begin]) => event.startsWith(begin))?.[1]

/** Of a text that Deputy wrote, once for each record: a schema costs four times as much as the rest of the document. */
const detailOf = (body: string): Readonly<Record<string, unknown>> => {
  try {
    const record: unknown = JSON.parse(body)
    const detail = typeof record === 'object' && record !== null && 'detail' in record ? record.detail : undefined
    return typeof detail === 'object' && detail !== null ? { ...detail } : {}
  } catch {
    // An altered text is sent as it is, in `event.original`.
    return {}
  }
}

const named = (name: string | null) => (name === null ? undefined : { name })

/** A record under the names of the Elastic Common Schema, with its canonical text as `event.original`. */
const toEcs = (row: AuditRow, { node, environment }: Origin) => {
  const { seq, hash, id, event, outcome, tenant, user, server, downstream, body } = row
  const detail = detailOf(body)
  return {
    '@timestamp': new Date(row.at).toISOString(),
    ecs: { version: ECS_VERSION },
    message: `${event} ${outcome}`,
    event: {
      // The hash covers the node, the number and all records before it: there is no other record with it.
      id: hash,
      kind: 'event',
      ...categoriesOf(event),
      action: event,
      outcome: outcome === 'issued' || outcome === 'done' ? 'success' : 'failure',
      provider: 'deputy',
      module: 'deputy',
      dataset: 'deputy.audit',
      sequence: seq,
      hash,
      original: body,
    },
    service: {
      name: 'deputy',
      type: 'deputy',
      environment,
      node: { name: node },
      origin: named(server),
      target: named(downstream),
    },
    organization: tenant === null ? undefined : { id: tenant },
    user: user === null ? undefined : { id: user, name: user },
    related: user === null ? undefined : { user: [user] },
    error: typeof detail['error'] === 'string' ? { code: detail['error'] } : undefined,
    deputy: { correlation_id: id, outcome, detail },
  }
}

/** The record as it is, with what belongs to it. `record` is its canonical text, whose SHA-256 is `hash`. */
const toPlain = ({ seq, hash, body }: AuditRow, { node }: Origin) => ({ node, seq, hash, record: body })

/** Makes the document of a record. */
export const createDocuments =
  (fields: FieldNames, origin: Origin) =>
  (row: AuditRow): object =>
    fields === 'ecs' ? toEcs(row, origin) : toPlain(row, origin)
export type ToDocument = ReturnType<typeof createDocuments>
