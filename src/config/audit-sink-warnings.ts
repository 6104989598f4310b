import { isThisMachine } from './audit-sinks.ts'
import type { Problem } from './problem.ts'
import type { Settings } from './settings.ts'

/** Audit records that leave the machine in clear: they name users, and what they may do. */
export const auditSinkWarnings = ({ audit }: Pick<Settings, 'audit'>): Problem[] =>
  audit.sinks.flatMap((sink) =>
    sink.kind === 'syslog' && sink.tls === false && sink.address !== undefined && !isThisMachine(sink.address.host)
      ? [
          {
            file: 'deputy.yaml',
            line: 1,
            message: `audit.sinks: ${sink.name} sends audit records to ${sink.address.host} without TLS: programs on the way read and change them.`,
            fix: 'Write `tls: true`, or `tls: { ca: … }` with the authority of the receiver.',
          },
        ]
      : [],
  )
