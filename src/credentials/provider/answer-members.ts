import { z } from 'zod'

/** The members of an answer, a JSON object or a form. */
export type Members = Readonly<Record<string, unknown>>

const membersSchema = z.record(z.string(), z.unknown())
export const asMembers = (value: unknown): Members | undefined => membersSchema.safeParse(value).data

/** A form says one of these: https://docs.github.com/en/apps/oauth-apps/building-oauth-apps/authorizing-oauth-apps is one of those that answer so. */
const FORM = /^\s*(?:[\w.~%+-]+=[^&=<>\s"]*&)*(?:access_token|error)=[^&=<>\s"]+=*(?:&[\w.~%+-]+=[^&<>\s"]*)*\s*$/

/** What an answer says, as a JSON object or as a form; undefined for any other text. */
export const membersIn = (text: string): Members | undefined => {
  try {
    return asMembers(JSON.parse(text))
  } catch {
    return FORM.test(text) ? Object.fromEntries(new URLSearchParams(text.trim())) : undefined
  }
}

export const textOf = (value: unknown): string | undefined =>
  typeof value === 'string' && value.trim() !== '' ? value : undefined

/** Error codes of the OAuth family that answers of providers are about (RFC 6749 section 5.2, RFC 8707, RFC 9449, RFC 9470). */
const CODES: ReadonlySet<string> = new Set([
  'invalid_request',
  'invalid_client',
  'invalid_grant',
  'unauthorized_client',
  'unsupported_grant_type',
  'invalid_scope',
  'invalid_target',
  'invalid_token',
  'access_denied',
  'temporarily_unavailable',
  'slow_down',
  'server_error',
  'interaction_required',
  'login_required',
  'consent_required',
  'insufficient_user_authentication',
  'use_dpop_nonce',
  'invalid_dpop_proof',
  'unsupported_token_type',
])

const codeOf = (value: unknown): string | undefined => {
  const code = textOf(value)?.trim().toLowerCase()
  return code !== undefined && CODES.has(code) ? code : undefined
}

/** Where services that wrap their errors put the code, and the words. */
const CODE_MEMBERS = ['code', 'error', 'error_code', 'type', 'name'] as const
const WORD_MEMBERS = ['error_description', 'description', 'message', 'detail'] as const

/** An error by its standard code, and what the provider says about it. */
export interface NamedError {
  readonly code: string
  readonly description: string | undefined
}

/**
 * The standard's error code in an error answer, in whatever dress: in other letters, in an object or a list, one level deep.
 * @param member the one that the provider's file names
 */
export const errorIn = (members: Members, member: string): NamedError | undefined => {
  const candidates = [members[member], members['error'], members['errors'], members]
  for (const candidate of candidates) {
    const plain = codeOf(candidate)
    if (plain !== undefined) return { code: plain, description: textOf(members['error_description']) }
    const inner = asMembers(Array.isArray(candidate) ? candidate[0] : candidate)
    const code = CODE_MEMBERS.map((name) => codeOf(inner?.[name])).find((each) => each !== undefined)
    if (code !== undefined)
      return { code, description: WORD_MEMBERS.map((name) => textOf(inner?.[name])).find((each) => each !== undefined) }
  }
  return undefined
}

/** Longer texts are pages, which quote what they like. */
const MAX_TEXT_LENGTH = 1000

/** The standard's error code in an error answer that is plain text, where it names exactly one. */
export const errorInText = (text: string): NamedError | undefined => {
  if (text.length > MAX_TEXT_LENGTH || /^\s*</.test(text)) return undefined
  const named = new Set((text.toLowerCase().match(/[a-z_]+/g) ?? []).filter((word) => CODES.has(word)))
  const [code, another] = named
  return code === undefined || another !== undefined ? undefined : { code, description: undefined }
}

/** The standard's error code in a `WWW-Authenticate` challenge (RFC 6750 section 3). */
export const errorInChallenge = (challenge: string | null): NamedError | undefined => {
  const code = codeOf(/\berror="?([\w-]+)/.exec(challenge ?? '')?.[1])
  return code === undefined
    ? undefined
    : { code, description: /\berror_description="([^"]*)"/.exec(challenge ?? '')?.[1] }
}

/** The longest life of a token that is a length of time (s): 10 years. Above are moments since 1970, in seconds or milliseconds, and mistakes. */
const MAX_LIFE_S = 10 * 365 * 86_400

/**
 * `expires_in` of an answer (RFC 6749 section 5.1), in whole seconds. Undefined where it says nothing: it is absent, empty, no
 * number, or above ten years; then the provider's file says how long its tokens live. 0 where it says that the token is over.
 */
export const expiresInOf = (value: unknown): number | undefined => {
  const seconds =
    typeof value === 'number'
      ? value
      : typeof value === 'string' && /^\s*-?\d+(\.\d+)?\s*$/.test(value)
        ? Number(value)
        : Number.NaN
  return Number.isFinite(seconds) && seconds <= MAX_LIFE_S ? Math.max(0, Math.floor(seconds)) : undefined
}
