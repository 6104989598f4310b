import { z } from 'zod'

/** What stands in a header's value for the credential. */
export const CREDENTIAL = '{credential}'

const METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'] as const

/** Headers that describe the transport or the destination of a message (RFC 9110 section 7.6.1), or that are Deputy's own: they hold no credential. */
export const NOT_INJECTED =
  /^(host|connection|content-length|content-encoding|transfer-encoding|te|trailer|upgrade|keep-alive|expect|date|via|range|accept-encoding|origin|(proxy|deputy|sec)-.*)$/i

/** A token of RFC 9110 section 5.6.2. */
const nameSchema = z.string().regex(/^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}$/, 'write the name of a header')

/** Characters that no client escapes, so that it stands in a request as it stands here. */
const placeholderSchema = z
  .string()
  .regex(/^[A-Za-z0-9_.~-]{4,100}$/, 'a placeholder is 4 to 100 of A-Z, a-z, 0-9, ".", "_", "~" and "-"')

/** scheme, host and port (RFC 6454), in the form in which they are compared. */
const originSchema = z
  .string()
  .refine((text) => {
    const url = URL.parse(text)
    return (
      url !== null &&
      (url.protocol === 'https:' || url.protocol === 'http:') &&
      (text === url.origin || (`${url.origin}/` === url.href && !/[?#@]/.test(text)))
    )
  }, 'write an origin such as https://api.github.com, without a path')
  .transform((text) => new URL(text).origin)

const waySchema = z.union([
  z
    .strictObject({
      header: nameSchema.describe("Name of the header; a header of this name in the caller's request is removed."),
      value: z.string().default(CREDENTIAL).describe('Its value; `{credential}` stands for the credential.'),
    })
    .describe('In a header.'),
  z
    .strictObject({
      query: z
        .string()
        .min(1)
        .max(100)
        .describe("Name of the parameter; a parameter of this name in the caller's request is removed."),
    })
    .describe('In the query string.'),
  z
    .strictObject({
      path: placeholderSchema.describe('Placeholder in the path that the credential replaces.'),
    })
    .describe('In the path.'),
  z
    .strictObject({
      body: placeholderSchema.describe(
        'Placeholder in the body that the credential replaces, escaped for the content type of the body.',
      ),
    })
    .describe('In the body.'),
  z
    .strictObject({
      basic: z.strictObject({
        user: z
          .string()
          .regex(/^[^:\p{Cc}]+$/u, 'a user has no colon and no control characters')
          .optional()
          .describe(
            'The user, with the credential as password; absent: the credential is a login, JSON with `username` and `password`.',
          ),
      }),
    })
    .describe('As `Authorization: Basic` (RFC 7617).'),
])
/** A place in a request that a credential is put into. */
export type InjectionWay = z.output<typeof waySchema>

/** `inject` of a downstream: how the proxy puts its credential into requests, and into which. */
export const injectSchema = z.strictObject({
  hosts: z
    .array(originSchema)
    .min(1)
    .describe(
      'Origins to which the credential may be sent, for example https://api.github.com; a request that names the downstream goes to the first one. http only for loopback, with network.allow_loopback.',
    ),
  methods: z
    .array(z.enum(METHODS))
    .min(1)
    .default([...METHODS])
    .describe('Methods of requests that receive the credential.'),
  paths: z
    .array(z.string().regex(/^\/[!-"$->@-~]*$/, 'a path begins with / and has no query'))
    .min(1)
    .optional()
    .describe('Paths of requests that receive the credential, including paths below them; absent: all.'),
  as: z
    .union(
      [waySchema, z.array(waySchema).min(1)],
      "write where the credential goes, such as { header: Authorization, value: 'Bearer {credential}' }; docs/proxy.md has the other places",
    )
    .transform((as) => (Array.isArray(as) ? as : [as]))
    .describe('Where the credential is placed in the request: one place, or a list of places.'),
  redact_response: z
    .boolean()
    .default(true)
    .describe(
      'Whether to redact the credential from answers in which the service repeats it. Such answers are delivered uncompressed and complete.',
    ),
  only: z
    .boolean()
    .default(false)
    .describe('True: the credential is used only through the proxy and never handed out.'),
})
export type Inject = z.output<typeof injectSchema>

/** The place that a way fills, in words: what two ways must not have in common. */
export const placeOf = (way: InjectionWay): string => {
  if ('header' in way) return `the header ${way.header.toLowerCase()}`
  if ('basic' in way) return 'the header authorization'
  if ('query' in way) return `the parameter ${way.query}`
  return `the placeholder ${'path' in way ? way.path : way.body}`
}
