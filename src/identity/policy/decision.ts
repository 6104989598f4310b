import type { CredentialKind } from '#config'

/** Claims that the issuer has left out of a token because they are elsewhere, and whether groups are mapped from one of them. */
export interface OmittedClaims {
  readonly claims: readonly string[]
  readonly groups: boolean
}

/** The action of an MCP client that gets tokens for a user: what no policy forbids is allowed. */
export const SIGN_IN = 'sign_in'

/** What policies may know of an operation of an API. */
export interface OperationFacts {
  readonly api: string
  readonly method: string
  /** The path template of the document, after the path of the server. */
  readonly path: string
  readonly readOnly: boolean
  readonly destructive: boolean
  readonly idempotent: boolean
}

/** A question to policy: may this principal, through this server, get this kind of credential for that downstream? */
export interface PolicyQuestion {
  readonly principal:
    | {
        readonly kind: 'user'
        readonly tenant: string
        readonly user: string
        readonly groups: readonly string[]
        /** What the issuer says that the user has, without saying what. */
        readonly omitted?: OmittedClaims
        readonly claims: Readonly<Record<string, unknown>>
      }
    | { readonly kind: 'agent'; readonly tenant: string; readonly agent: string; readonly owner: string }
    | { readonly kind: 'workload'; readonly tenant: string }
  readonly action: CredentialKind | typeof SIGN_IN
  readonly server: { readonly id: string; readonly owner: string; readonly team?: string; readonly status: string }
  /** Of `sign_in`: the server itself. */
  readonly downstream: { readonly id: string }
  readonly tenant: string
  readonly scopes: readonly string[]
  readonly tool?: string
  /** The operation of an API that the tool is. */
  readonly operation?: OperationFacts
  readonly environment: string
  /** What of the credential can be narrowed; it follows from the downstream. */
  readonly narrows: readonly string[]
  readonly acr?: string
  /** The MCP client that the user has signed in at, and how it is known. */
  readonly client?: { readonly id: string; readonly known: string }
  /** Milliseconds since the epoch. */
  readonly now: number
}

export interface PolicyDecision {
  /** The scopes of the question that policy allows; equal to those asked when it allows all. */
  readonly scopes: readonly string[]
  /** False: nothing at all is allowed. A question without scopes is allowed or not as a whole. */
  readonly allowed: boolean
  /** Ids (`file#n` or the `@id` annotation) of the policies that made the decision. */
  readonly policies: readonly string[]
  /** Errors while evaluating; a policy that fails counts as not there, and the decision names it. */
  readonly errors: readonly string[]
}

export interface Policy {
  /** Whether the same question can have another answer at another time. */
  readonly readsTime: boolean
  /** @throws DeputyError `subject_claims_omitted` where policies decide by groups or claims that the token leaves out */
  decide(question: PolicyQuestion): PolicyDecision
}
