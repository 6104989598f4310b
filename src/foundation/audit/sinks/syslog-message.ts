import type { AuditRow } from '#foundation/store'
import type { ToDocument } from './document.ts'

/** Facilities of RFC 5424 section 6.2.1 that are meant for such records. */
export const FACILITIES = {
  auth: 4,
  authpriv: 10,
  audit: 13,
  local0: 16,
  local1: 17,
  local2: 18,
  local3: 19,
  local4: 20,
  local5: 21,
  local6: 22,
  local7: 23,
} as const
export type Facility = keyof typeof FACILITIES

export interface SyslogOptions {
  readonly facility: Facility
  /** The machine. */
  readonly host: string
  readonly node: string
  /** The private enterprise number in the name of the structured data; that of RFC 5612 is reserved for examples. */
  readonly enterprise: number
  readonly document: ToDocument
}

/** RFC 5424 section 6.2.1: informational, and warning for what was refused or has failed. */
const severityOf = (outcome: string): number => (outcome === 'issued' || outcome === 'done' ? 6 : 4)

/** A header field: printable ASCII without space (section 6). */
const headerField = (text: string, longest: number): string => {
  const kept = text.replace(/[^\x21-\x7e]/g, '_').slice(0, longest)
  return kept === '' ? '-' : kept
}

/**
 * Section 6.3.3. A control character would end the message at a receiver that reads by lines, so that none goes out.
 */
const parameterValue = (text: string): string =>
  // oxlint-disable-next-line no-control-regex
  text.replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]/g, '\ufffd').replace(/["\\\]]/g, '\\$&')

/** ASCII alone: then the message needs no byte order mark (section 6.4), and its JSON means the same. */
const asciiJson = (value: object): string => {
  const text = JSON.stringify(value)
  // Most are ASCII as they are.
  return /[\u007f-\uffff]/.test(text)
    ? text.replace(/[\u007f-\uffff]/g, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`)
    : text
}

/** One record as a message of RFC 5424, without framing. */
export const toSyslog = (row: AuditRow, { facility, host, node, enterprise, document }: SyslogOptions): string => {
  const { seq, hash, id, outcome, tenant, user, server, downstream } = row
  const parameters = { node, seq: String(seq), hash, id, outcome, tenant, user, server, downstream }
  const data = Object.entries(parameters)
    .filter((entry): entry is [string, string] => entry[1] !== null)
    .map(([name, value]) => ` ${name}="${parameterValue(value)}"`)
    .join('')
  return [
    `<${FACILITIES[facility] * 8 + severityOf(outcome)}>1`,
    new Date(row.at).toISOString(),
    headerField(host, 255),
    'deputy',
    '-',
    headerField(row.event, 32),
    `[deputy@${enterprise}${data}]`,
    asciiJson(document(row)),
  ].join(' ')
}

/** RFC 6587 section 3.4.1 and RFC 5425 section 4.3: the length in octets goes before each message. */
export const octetCounted = (message: string): string => `${Buffer.byteLength(message)} ${message}`

/** RFC 6587 section 3.4.2, for receivers that know nothing else. No message holds a line feed. */
export const newlineEnded = (message: string): string => `${message}\n`
