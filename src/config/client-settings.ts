import { z } from 'zod'
import { lifetimeSchema } from './values.ts'

const DAY_MS = 86_400_000

/** `claude.ai`, or `*.example.com` for the hosts below it. */
const hostPatternSchema = z
  .string()
  .toLowerCase()
  .refine(
    (text) => URL.parse(`https://${text.replace(/^\*\./, '')}/`)?.host === text.replace(/^\*\./, ''),
    'write a host, with its port if it is not 443, or *. and a domain',
  )

/** `clients` of deputy.yaml: MCP clients that no file names. */
export const clientSettingsSchema = z
  .strictObject({
    approval: z
      .enum(['none', 'unknown'])
      .default('none')
      .describe(
        'Which clients have to wait for `deputy client approve`. unknown: those that register themselves, and those whose document is at a host that `metadata_documents.hosts` does not name.',
      ),
    redirect_schemes: z
      .array(z.string().regex(/^[a-z][a-z0-9+-]*$/, 'write a URI scheme without a period, in lower case'))
      .default(['cursor'])
      .describe(
        'Private-use schemes without a period to which answers may go. Schemes with one, such as `com.example.app`, always count (RFC 8252 section 7.1).',
      ),
    metadata_documents: z
      .strictObject({
        enabled: z
          .boolean()
          .default(true)
          .describe('Whether a client may be known by the https address of its document.'),
        hosts: z
          .union([z.literal('*'), z.array(hostPatternSchema).min(1)])
          .default('*')
          .describe(
            'Hosts that are trusted to describe clients, such as `claude.ai` or `*.example.com`; "*" for all. A document elsewhere is refused, or waits for approval with `approval: unknown`.',
          ),
        recheck: lifetimeSchema
          .default(3_600_000)
          .describe('A document is fetched again after this time at most, so that its changes are noticed.'),
      })
      .prefault({})
      .describe('Client ID Metadata Documents.'),
    registration: z
      .strictObject({
        enabled: z
          .boolean()
          .default(true)
          .describe('Whether clients may register themselves (RFC 7591), which any program can.'),
        unused_lifetime: lifetimeSchema
          .default(DAY_MS)
          .describe('How long a client is known with which no user has signed in yet.'),
        used_lifetime: lifetimeSchema
          .default(90 * DAY_MS)
          .describe('How long it is known after the end of its last sign-in.'),
        limit: z
          .int()
          .min(1)
          .max(1_000_000)
          .default(10_000)
          .describe('Clients at most with which no user has signed in yet, documents among them.'),
        max_bytes: z.int().min(1024).max(65_536).default(8192).describe('Largest registration, and largest document.'),
      })
      .prefault({})
      .describe('Registration of clients by themselves.'),
  })
  .prefault({})
  .describe('MCP clients that no file in `clients` names, for servers with `sign_in: deputy`.')
export type ClientSettings = z.output<typeof clientSettingsSchema>

/** Whether a host is named by a list of hosts; `*` names every host. */
export const isNamedHost = (host: string, hosts: ClientSettings['metadata_documents']['hosts']): boolean =>
  hosts === '*' ||
  hosts.some((pattern) => (pattern.startsWith('*.') ? host.endsWith(pattern.slice(1)) : host === pattern))
