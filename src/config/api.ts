import type { ApiTool } from '#openapi'
import { z } from 'zod'
import { idSchema, scopeSchema, timeoutSchema, urlSchema } from './values.ts'

/** What a tool may be called; MCP clients take no more (SEP-986, and 64 characters in several clients). */
export const toolNameSchema = z
  .string()
  .regex(/^[A-Za-z0-9_.-]{1,64}$/, 'a tool name is 1 to 64 of A-Z, a-z, 0-9, "_", "-" and "."')

/** https://www.rfc-editor.org/rfc/rfc6901 */
const pointerSchema = z.string().regex(/^(\/([^~/]|~[01])*)*$/, 'write a JSON pointer such as /data/items')

const parameterSchema = z.strictObject({
  name: toolNameSchema.optional().describe('Name of the argument; default: the name in the document.'),
  description: z.string().optional().describe('Description of the argument.'),
  value: z.json().optional().describe('Value that every call sends; the caller neither sees nor sets it.'),
  default: z.json().optional().describe('Value where the caller sends none.'),
  slashes: z
    .boolean()
    .default(false)
    .describe('True: the value of a path parameter may have slashes, and then fills several segments of the path.'),
  hidden: z.boolean().default(false).describe('True: the argument is left out; only for optional parameters.'),
})

const limits = {
  timeout: timeoutSchema.optional().describe('Time for a whole call, including further pages and attempts.'),
  max_bytes: z
    .int()
    .min(1024)
    .max(16_777_216)
    .optional()
    .describe('Bytes of an answer. Text that is longer is cut; JSON and files that are longer are refused.'),
}

const paginationSchema = z.discriminatedUnion('by', [
  z.strictObject({
    by: z.literal('link').describe('The header `Link` with `rel="next"` (RFC 8288).'),
    items: pointerSchema.default('').describe('JSON pointer of the list in an answer.'),
    pages: z.int().min(1).max(100).default(10).describe('Pages that one call fetches at most.'),
  }),
  z.strictObject({
    by: z.literal('cursor').describe('A value of the answer that the next request sends.'),
    next: pointerSchema.describe('JSON pointer of that value.'),
    parameter: z.string().min(1).describe('Query parameter that sends it.'),
    items: pointerSchema.default('').describe('JSON pointer of the list in an answer.'),
    pages: z.int().min(1).max(100).default(10).describe('Pages that one call fetches at most.'),
  }),
  z.strictObject({
    by: z.literal('page').describe('A number that grows by one until a page is empty.'),
    parameter: z.string().min(1).describe('Query parameter that sends it.'),
    items: pointerSchema.default('').describe('JSON pointer of the list in an answer.'),
    pages: z.int().min(1).max(100).default(10).describe('Pages that one call fetches at most.'),
  }),
])

const effectsSchema = z.strictObject({
  read_only: z.boolean().optional().describe('Whether the tool only reads.'),
  destructive: z.boolean().optional().describe('Whether the tool may delete or overwrite.'),
  idempotent: z
    .boolean()
    .optional()
    .describe('Whether the same call again changes nothing more; only such calls are sent again.'),
})

const toolSchema = z.union([
  z.strictObject({
    operation: z
      .string()
      .min(1)
      .max(500)
      .describe('The operation: its operationId, or its method and path, such as `GET /invoices/{id}`.'),
    name: toolNameSchema
      .optional()
      .describe('Name of the tool; default: made from the operationId, else from method and path.'),
    title: z.string().max(200).optional().describe('Title of the tool.'),
    description: z.string().max(10_000).optional().describe('Description of the tool.'),
    parameters: z
      .record(z.string().min(1), parameterSchema)
      .default({})
      .describe(
        'Arguments, by the name of the parameter in the document; `query:id` or `header:id` where two share it, `body` for the whole body, and `body:NAME` for a property of it.',
      ),
    effects: effectsSchema.default({}).describe('Corrections of what the method says.'),
    scopes: z
      .array(scopeSchema)
      .optional()
      .describe("Scopes of the downstream; default: from the document's security requirements."),
    select: z
      .array(pointerSchema)
      .min(1)
      .optional()
      .describe('JSON pointers of the parts of an answer that the caller gets; absent: all.'),
    pagination: paginationSchema.optional().describe('How one call fetches several pages.'),
    ...limits,
  }),
  z.strictObject({
    tag: z.string().min(1).describe('All operations with this tag.'),
    methods: z
      .array(z.string().regex(/^[A-Z]+$/, 'write the method in capitals, such as GET'))
      .optional()
      .describe('Only those of these methods.'),
  }),
  z.strictObject({
    path: z
      .string()
      .regex(/^\//, 'a path begins with /')
      .describe('All operations of this path of the document; with `/*` at its end also those below it.'),
    methods: z
      .array(z.string().regex(/^[A-Z]+$/, 'write the method in capitals, such as GET'))
      .optional()
      .describe('Only those of these methods.'),
  }),
])

/** `apis/<id>.yaml`: a REST API whose operations are tools. */
export const apiSchema = z.strictObject({
  api: idSchema.describe('The id.'),
  name: z.string().max(200).optional().describe('Name of the API.'),
  environment: idSchema.optional().describe('Only daemons of this environment see it; absent: all daemons.'),
  downstream: idSchema.describe('The downstream whose credential the requests carry; it needs `inject`.'),
  document: z
    .strictObject({
      file: z
        .string()
        .regex(/^[A-Za-z0-9._-]+\.json$/, 'write the name of a JSON file in the folder apis')
        .describe('The OpenAPI document, in the same folder.'),
      sha256: z
        .string()
        .regex(/^[0-9a-f]{64}$/)
        .describe('SHA-256 of that file. A file with another digest is refused until `deputy api accept`.'),
      source: z
        .string()
        .optional()
        .describe(
          'The file or URL that the document was read from; a relative path begins at the configuration folder.',
        ),
    })
    .describe('The document that was accepted.'),
  base_url: urlSchema
    .optional()
    .describe("URL that the paths of the document follow; default: the document's first server."),
  variables: z
    .record(z.string(), z.string())
    .default({})
    .describe("Values of the variables in the URL of the document's server."),
  scopes: z
    .record(z.string(), scopeSchema)
    .default({})
    .describe("The downstream's scope for each scope of the document whose name differs."),
  tools: z.array(toolSchema).default([]).describe('The operations that are tools; no other operation is one.'),
  timeout: timeoutSchema.default(30_000).describe('Time for a whole call.'),
  max_bytes: z.int().min(1024).max(16_777_216).default(1_048_576).describe('Bytes of an answer.'),
  record: z
    .array(z.enum(['arguments', 'answers']))
    .default([])
    .describe(
      'What audit records keep of a call besides its digest, with credentials and parameters of format `password` left out.',
    ),
})
export type Api = z.output<typeof apiSchema>
export type ApiToolEntry = Api['tools'][number]

/** An API with its tools, compiled from the accepted document. */
export interface CompiledApi {
  readonly api: Api
  readonly tools: readonly ApiTool[]
}
