import ipaddr from 'ipaddr.js'
import { z } from 'zod'
import { awsAccount } from './secret-backends.ts'
import { tlsFilesSchema, clientTlsSchema } from './tls.ts'
import {
  idSchema,
  lifetimeSchema,
  listenAddressSchema,
  localReferenceSchema,
  timeoutSchema,
  urlSchema,
  writeTimeoutSchema,
} from './values.ts'

/** Whether a host is this machine by its name or address. */
export const isThisMachine = (host: string): boolean =>
  host === 'localhost' || (ipaddr.isValid(host) && ipaddr.process(host).range() === 'loopback')

const common = {
  name: idSchema.describe(
    'Name of the sink, under which its position is kept. Under another name it begins anew; a file or an archive of segments then also needs another path.',
  ),
  required: z
    .boolean()
    .describe(
      'true: nothing is issued until this sink has confirmed the record. false: no caller waits for it; the records follow in the background.',
    ),
  deadline: writeTimeoutSchema
    .optional()
    .describe(
      'Time limit for a batch. Default: audit.deadline for a required sink, which it may not exceed; otherwise 10s.',
    ),
  backfill: z
    .enum(['start', 'now'])
    .default('start')
    .describe(
      'Where a sink begins that has no position yet: at the first record that the store has, or at the next one.',
    ),
  alert_after: timeoutSchema
    .default(300_000)
    .describe('How far a sink that is not required may be behind before `deputy status` reports it.'),
}

const batches = {
  batch_records: z.int().min(1).max(5000).default(500).describe('Most records in one request.'),
  batch_bytes: z
    .int()
    .min(1024)
    .max(16_777_216)
    .default(1_048_576)
    .describe(
      'Most bytes of records in one request, counted by their canonical text; with its fields a record is about three times as long.',
    ),
  fields: z
    .enum(['ecs', 'deputy'])
    .default('ecs')
    .describe('Names of the fields: those of the Elastic Common Schema, or `node`, `seq`, `hash` and `record` only.'),
}

/** A header whose value is not a secret. */
const headersSchema = z
  .record(
    z
      .string()
      .regex(/^[A-Za-z][A-Za-z0-9-]{0,63}$/, 'write the name of a header')
      .refine(
        (name) => !/authorization|cookie|key|token|secret|password/i.test(name),
        'write the secret to a file of mode 0600, and name the file in `token` and the header in `token_header`',
      ),
    z.string().regex(/^[\x20-\x7e]{1,512}$/, 'write printable ASCII'),
  )
  .default({})
  .describe('Headers to send along; none of them a secret.')

const overHttp = {
  ...common,
  ...batches,
  url: urlSchema
    .refine((text) => {
      const url = URL.parse(text)
      return url?.protocol !== 'http:' || isThisMachine(url.hostname.replace(/^\[|\]$/g, ''))
    }, 'write an https URL; http only for an address of this machine, such as http://127.0.0.1:4318/v1/logs')
    .describe('Full URL of the receiver; https, or http on this machine. Redirects are not followed.'),
  token: localReferenceSchema
    .optional()
    .describe(
      'File of mode 0600 or environment variable with the token of the receiver; a file is read for each batch.',
    ),
  token_header: z
    .string()
    .regex(/^[A-Za-z][A-Za-z0-9-]{0,63}$/, 'write the name of a header')
    .default('Authorization')
    .describe('Header in which the token is sent.'),
  headers: headersSchema,
  tls: tlsFilesSchema.optional().describe('Certificates, where those of the system are not enough.'),
}

const tokenSchemeSchema = z
  .string()
  .regex(/^[A-Za-z][A-Za-z0-9-]{0,31}$/, 'write a word such as Bearer or ApiKey, or null for the token only')
  .nullable()

const fileSinkSchema = z.strictObject({
  kind: z.literal('file').describe('A JSON-lines file.'),
  ...common,
  path: z.string().min(1).describe('The file.'),
})

const syslogSinkSchema = z
  .strictObject({
    kind: z.literal('syslog').describe('Syslog (RFC 5424) over TCP, TLS or a Unix socket.'),
    ...common,
    ...batches,
    address: listenAddressSchema.optional().describe('host:port of the receiver.'),
    socket: z.string().min(1).optional().describe('Unix socket of the receiver, such as /dev/log.'),
    datagram: z.boolean().default(false).describe('Whether `socket` takes datagrams, as /dev/log does, and no stream.'),
    tls: clientTlsSchema,
    framing: z
      .enum(['octet_counting', 'newline'])
      .default('octet_counting')
      .describe('How messages of a stream are told apart (RFC 6587).'),
    facility: z
      .enum([
        'audit',
        'auth',
        'authpriv',
        'local0',
        'local1',
        'local2',
        'local3',
        'local4',
        'local5',
        'local6',
        'local7',
      ])
      .default('audit')
      .describe('Facility; audit is 13.'),
    enterprise: z
      .int()
      .min(1)
      .max(4_294_967_295)
      .default(32_473)
      .describe(
        'Your private enterprise number, for the name of the structured data. The default is the number for examples (RFC 5612).',
      ),
  })
  .superRefine(({ address, socket, datagram }, context) => {
    if ((address === undefined) === (socket === undefined))
      context.addIssue({ code: 'custom', path: ['kind'], message: 'write either `address` or `socket`' })
    if (datagram && socket === undefined)
      context.addIssue({
        code: 'custom',
        path: ['datagram'],
        message: 'only a `socket` takes datagrams here; leave it out',
      })
  })

const otlpSinkSchema = z.strictObject({
  kind: z.literal('otlp').describe('Logs over OTLP/HTTP.'),
  ...overHttp,
  token_scheme: tokenSchemeSchema.default('Bearer').describe('Word before the token in its header, or null.'),
})

const httpSinkSchema = z
  .strictObject({
    kind: z.literal('http').describe('JSON batches over HTTP.'),
    ...overHttp,
    token_scheme: tokenSchemeSchema
      .optional()
      .describe('Word before the token in its header, or null. Default: Splunk for `splunk_hec`, otherwise Bearer.'),
    format: z
      .enum(['json', 'ndjson', 'splunk_hec'])
      .default('json')
      .describe('A JSON array, one document a line, or events of the HTTP Event Collector of Splunk.'),
    index: z
      .string()
      .regex(/^[A-Za-z0-9_-]{1,80}$/, 'write the name of an index')
      .optional()
      .describe('Index of Splunk; absent: that of the token.'),
    sourcetype: z.string().min(1).max(80).default('deputy:audit').describe('Source type of Splunk.'),
  })
  .superRefine(({ format, index, token }, context) => {
    if (format === 'splunk_hec' && token === undefined)
      context.addIssue({
        code: 'custom',
        path: ['format'],
        message:
          'the HTTP Event Collector needs its token: write it to a file of mode 0600 and name it, `token: { file: secrets/hec }`',
      })
    if (format !== 'splunk_hec' && index !== undefined)
      context.addIssue({
        code: 'custom',
        path: ['index'],
        message: 'only `format: splunk_hec` has an index; leave it out',
      })
  })

const segmentSinkSchema = z
  .strictObject({
    kind: z.literal('segments').describe('Sealed segments (docs/audit-format.md) in a folder or a bucket of S3.'),
    ...common,
    deadline: writeTimeoutSchema.default(60_000).describe('Time limit for one segment.'),
    folder: z.string().min(1).optional().describe('Folder; segments are NODE/NUMBER.jsonl in it.'),
    s3: z
      .strictObject({
        ...awsAccount,
        bucket: z
          .string()
          .regex(/^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/, 'write the name of a bucket')
          .describe('Bucket.'),
        prefix: z
          .string()
          .regex(/^([A-Za-z0-9_.-]+\/)*$/, 'write folders that end with a slash, such as audit/deputy/')
          .default('')
          .describe('Before the names of objects, with a slash at the end.'),
        retain: z
          .strictObject({
            mode: z.enum(['governance', 'compliance']).describe('Mode of Object Lock.'),
            for: lifetimeSchema.describe('How long an object is locked.'),
          })
          .optional()
          .describe('Object Lock of each object, where the bucket has it enabled.'),
      })
      .optional()
      .describe('Bucket of S3, or of a compatible service at `endpoint`.'),
    seal_after: timeoutSchema.default(60_000).describe('A segment that is not full is sealed after this time.'),
    batch_records: z.int().min(1).max(20_000).default(5000).describe('Most records in a segment.'),
    batch_bytes: z.int().min(1024).max(67_108_864).default(16_777_216).describe('Most bytes of records in a segment.'),
  })
  .superRefine(({ required, folder, s3, seal_after: sealAfter, alert_after: alertAfter }, context) => {
    if (required)
      context.addIssue({
        code: 'custom',
        path: ['required'],
        message: 'a segment is sealed after many records, and no caller can wait for that: write `required: false`',
      })
    if ((folder === undefined) === (s3 === undefined))
      context.addIssue({ code: 'custom', path: ['kind'], message: 'write either `folder` or `s3`' })
    if (alertAfter <= sealAfter)
      context.addIssue({
        code: 'custom',
        path: ['alert_after'],
        message: 'it is not longer than seal_after, so that every segment would be late: write a longer one',
      })
  })

/** `audit.sinks` of deputy.yaml: where records also go. */
export const auditSinksSchema = z
  .array(
    z.discriminatedUnion('kind', [fileSinkSchema, syslogSinkSchema, otlpSinkSchema, httpSinkSchema, segmentSinkSchema]),
  )
  .superRefine((sinks, context) => {
    for (const [at, { name }] of sinks.entries())
      if (sinks.findIndex((sink) => sink.name === name) < at)
        context.addIssue({
          code: 'custom',
          path: [at, 'name'],
          message: `the sink ${name} is defined twice: write another name`,
        })
  })
  .default([])

export type AuditSinkSettings = z.output<typeof auditSinksSchema>[number]
export type HttpSinkSettings = Extract<AuditSinkSettings, { kind: 'http' | 'otlp' }>
export type SegmentSinkSettings = Extract<AuditSinkSettings, { kind: 'segments' }>
export type SyslogSinkSettings = Extract<AuditSinkSettings, { kind: 'syslog' }>
