import { refuse } from '#errors'
import { AUDIT_EVENTS, AUDIT_OUTCOMES } from '#foundation/audit'
import type { AuditFilter, AuditRow } from '#foundation/store'
import { didYouMean } from '#foundation/text'
import { acknowledgeSchema, auditQuerySchema, exportQuerySchema, pruneSchema } from './contract.ts'
import type { AdminContext } from './dependencies.ts'
import { LinesAnswer, parse, present, type AdminEndpoints } from './endpoint.ts'

/** @throws DeputyError `name_unknown` for a word of a filter that no record can have */
const assertListed = (kind: string, name: string | undefined, known: readonly string[]): void => {
  if (name === undefined || known.includes(name)) return
  const near = didYouMean(name, known)
  throw refuse('name_unknown', {
    kind: `audit ${kind}`,
    name,
    hint: ` ${near === '' ? `There are ${known.join(', ')}.` : near}`,
  })
}

/** @throws DeputyError `config_invalid` where the audit log is in tables */
const inFiles = <T>(retention: T | undefined): T => {
  if (retention === undefined)
    throw refuse('config_invalid', { problem: 'the audit log is in tables of Postgres, from which no records leave' })
  return retention
}

const toJson = ({ body, ...row }: AuditRow) => ({ ...row, record: JSON.parse(body) as unknown })

/** The audit log: queries, and the proof of its chains. */
export const auditEndpoints = ({
  store,
  check,
  verifyAudit,
  exportAudit,
  auditHeads,
  auditRetention,
}: AdminContext): AdminEndpoints => ({
  'GET /audit': async ({ query }) => {
    const { limit, last, after, ...filter } = parse(auditQuerySchema, query)
    assertListed('event', filter.event, AUDIT_EVENTS)
    assertListed('outcome', filter.outcome, AUDIT_OUTCOMES)
    const auditFilter: AuditFilter = {
      // Numbers count within one node's chain; a query without one reads the records of every node.
      ...(after === undefined ? { node: '*' } : { afterSeq: after }),
      ...(await check.filter(present(filter))),
    }
    return (await store.audit.query(auditFilter, { limit, last })).map(toJson)
  },
  'GET /audit/verify': () => verifyAudit(),
  'GET /audit/export': async ({ query }) => {
    const { node } = parse(exportQuerySchema, query)
    if (node !== undefined && !(await store.audit.chains()).includes(node))
      throw refuse('name_unknown', { kind: 'node with an audit chain', name: node, hint: '' })
    return new LinesAnswer(exportAudit(node))
  },
  'POST /audit/seal': () => inFiles(auditRetention).seal(),
  'POST /audit/prune': (request) => {
    const { older_than: age } = parse(pruneSchema, request.body)
    return inFiles(auditRetention).prune({
      age,
      record: (detail) => request.recordFirst({ event: 'audit.prune', detail }),
    })
  },
  'POST /audit/acknowledge': async (request) => {
    const { reason } = parse(acknowledgeSchema, request.body)
    const { missing } = auditHeads
    if (missing.length > 0)
      await request.recordFirst({
        event: 'audit.acknowledge',
        detail: { reason, missing: missing.map(({ node, seq, hash, at }) => ({ node, seq, hash, at })) },
      })
    await auditHeads.acknowledge(missing)
    return { acknowledged: missing.length }
  },
})
