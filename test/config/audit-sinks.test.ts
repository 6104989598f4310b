import { expect, it } from 'vitest'
import { auditSinkWarnings } from '../../src/config/audit-sink-warnings.ts'
import { settingsSchema } from '../../src/config/settings.ts'

const warned = (sink: object): number =>
  auditSinkWarnings(
    settingsSchema.parse({ audit: { sinks: [{ name: 'siem', kind: 'syslog', required: false, ...sink }] } }),
  ).length

it.each([
  [{ address: 'logs.example:6514' }, 0],
  [{ address: 'logs.example:601', tls: false }, 1],
  [{ address: '10.0.0.1:601', tls: false }, 1],
  [{ address: '127.0.0.1:601', tls: false }, 0],
  [{ address: '[::1]:601', tls: false }, 0],
  [{ address: 'localhost:601', tls: false }, 0],
  [{ socket: '/dev/log', tls: false }, 0],
])('deputy check has for audit records to %j %i warnings', (sink, count) => {
  expect(warned(sink)).toBe(count)
})
