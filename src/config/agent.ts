import { z } from 'zod'
import { idSchema, scopeSchema } from './values.ts'

/** A subject, or the beginning of one where it ends with `*`. */
const subjectSchema = z
  .string()
  .min(1)
  .max(512)
  .superRefine((subject, context) => {
    const star = subject.indexOf('*')
    if (star < 0) return
    // Without a separator before it, `repo:acme*` would fit `repo:acme-evil/x`; `spiffe://*` fits every trust domain.
    const isWhole = star === subject.length - 1 && /[^:/][:/]\*$/.test(subject)
    if (!isWhole)
      context.addIssue({
        code: 'custom',
        message: 'a subject has one *, at its end, after a part that ends with : or /, such as repo:acme/app:*',
      })
  })

/** A token of an OpenID issuer that counts as the agent. Every setting has to fit. */
const agentTokenSchema = z.strictObject({
  issuer: z.url({ protocol: /^https?$/ }).describe('`iss` of the token. Its keys are found by discovery.'),
  jwks_uri: z
    .url({ protocol: /^https?$/ })
    .optional()
    .describe('Where its keys are, for an issuer without discovery.'),
  audience: z
    .string()
    .min(1)
    .max(512)
    .optional()
    .describe("`aud` of the token: this one and no other. Default: Deputy's issuer."),
  subject: subjectSchema.describe('`sub` of the token; with * at the end, how it begins.'),
  claims: z
    .record(z.string(), z.union([z.string(), z.number(), z.boolean()]))
    .default({})
    .describe('Further claims by their names or paths, with the values that they must have.'),
  algorithms: z
    .array(z.enum(['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512', 'EdDSA']))
    .min(1)
    .default(['RS256', 'ES256'])
    .describe('Signature algorithms that the issuer uses.'),
  reusable: z
    .boolean()
    .default(false)
    .describe(
      'True: a token counts until it ends. For platforms that give a program the same token until they renew it (Kubernetes, SPIRE). False: it counts once.',
    ),
})
export type AgentToken = z.output<typeof agentTokenSchema>

/** The part of a client's file that makes it an agent: a program that acts for itself, without a user. */
export const agentSchema = z.strictObject({
  tenant: idSchema.describe('The tenant in which it acts.'),
  servers: z
    .record(
      idSchema,
      z.strictObject({ scopes: z.array(scopeSchema).default([]).describe('The scopes of its tokens.') }),
    )
    .refine((servers) => Object.keys(servers).length > 0, 'name one server at least')
    .describe('The servers for which it gets tokens.'),
  tokens: z
    .array(agentTokenSchema)
    .max(20)
    .default([])
    .describe(
      'Tokens of other issuers by which it proves who it is (CI, Kubernetes, clouds, SPIFFE); any one is enough.',
    ),
})
export type Agent = z.output<typeof agentSchema>
