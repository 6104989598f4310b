import type { Downstream } from './downstream.ts'
import type { Problem } from './problem.ts'
import { leasedBy } from './secret-backends.ts'
import type { Located } from './yaml-file.ts'

/** The request to an engine, and its name as a lease; GCP tokens and static roles have no lease. */
export interface EngineQuestion {
  readonly backend: string
  readonly role: string
  readonly leased: boolean
}

/** Undefined for kinds that no engine makes. */
export const engineQuestionOf = (downstream: Downstream): EngineQuestion | undefined => {
  if (downstream.credential === 'mtls_certificate')
    return { backend: leasedBy(downstream.backend, 'pki'), role: downstream.role, leased: true }
  if (downstream.credential !== 'dynamic') return undefined
  const { engine, role, sts, gcp } = downstream
  const backend = leasedBy(downstream.backend, engine)
  switch (engine) {
    case 'database':
      return { backend, role, leased: downstream.role_kind === 'dynamic' }
    // Another role there makes other keys: it is a part of what is asked.
    case 'aws':
      return {
        backend,
        role:
          sts === undefined
            ? `creds/${role}`
            : `sts/${role}${sts.role_arn === undefined ? '' : `?role_arn=${encodeURIComponent(sts.role_arn)}`}`,
        leased: true,
      }
    case 'gcp':
      return {
        backend,
        role: `${gcp?.account ?? 'roleset'}/${role}/${gcp?.issues ?? 'token'}`,
        leased: gcp?.issues === 'key',
      }
    case 'azure':
      return { backend, role: `creds/${role}`, leased: true }
  }
}

/** Settings that belong to another engine than the configured one. */
export const engineProblems = ({ value, file, lineOf }: Located<Downstream>): Problem[] => {
  if (value.credential !== 'dynamic') return []
  const { engine, gcp } = value
  const of = { sts: 'aws', gcp: 'gcp', postgres: 'database', redis: 'database' } as const
  const problems: Problem[] = (['sts', 'gcp', 'postgres', 'redis'] as const)
    .filter((name) => value[name] !== undefined && engine !== of[name])
    .map((name) => ({
      file,
      line: lineOf([name]),
      message: `${name} is of the engine ${of[name]}, and this downstream is of ${engine}.`,
      fix: `Leave it out, or write engine: ${of[name]}.`,
    }))
  if (value.role_kind === 'static' && engine !== 'database')
    problems.push({
      file,
      line: lineOf(['role_kind']),
      message: `The engine ${engine} has no static roles here.`,
      fix: 'Leave role_kind out.',
    })
  if (gcp?.account === 'impersonated-account' && gcp.issues === 'key')
    problems.push({
      file,
      line: lineOf(['gcp', 'issues']),
      message: 'For an impersonated account Vault issues only tokens.',
      fix: 'Write issues: token.',
    })
  return problems
}
