import { z } from 'zod'
import { scopeSchema } from '#config'
import { refuse } from '#errors'
import type { TokenExchangeRequest, TokenRequest } from '#flows/exchange'
import { Secret } from '#foundation/crypto'
import type { Form } from '#listeners/http'
import type { TokenTypeUri } from '#oauth'

const MAX_TARGET_LENGTH = 2048
const MAX_TARGETS = 10
const MAX_SCOPES = 100

/** Longest credential that a report can be about (characters). */
const MAX_REJECTED_LENGTH = 16_384

const toolSchema = z.string().min(1).max(128)

/** @throws DeputyError `malformed_request` */
export const parseScopes = (text: string | undefined): string[] | undefined => {
  if (text === undefined) return undefined
  const scopes = text.split(' ')
  if (scopes.length > MAX_SCOPES || !scopes.every((scope) => scopeSchema.safeParse(scope).success)) {
    throw refuse('malformed_request', {
      problem: 'scope is not a list of scope tokens with single spaces between (RFC 6749 section 3.3)',
    })
  }
  return scopes
}

/** @throws DeputyError `malformed_request` */
export const parseTool = (tool: string | undefined): string | undefined => {
  if (tool !== undefined && !toolSchema.safeParse(tool).success)
    throw refuse('malformed_request', { problem: 'tool is longer than 128 characters' })
  return tool
}

const parseTargets = (form: Form, parameter: 'audience' | 'resource'): string[] => {
  const targets = form.all(parameter)
  if (targets.length > MAX_TARGETS || targets.some((target) => target.length > MAX_TARGET_LENGTH)) {
    throw refuse('malformed_request', { problem: `${parameter} is too long, or sent more than ${MAX_TARGETS} times` })
  }
  const bad =
    parameter === 'resource' ? targets.find((target) => !URL.canParse(target) || target.includes('#')) : undefined
  // RFC 8707 section 2: an absolute URI without fragment.
  if (bad !== undefined)
    throw refuse('malformed_request', { problem: 'resource is not an absolute URI without fragment' })
  return targets
}

const TOKEN_TYPE = /^urn:[\x21-\x7e]{1,200}$/

/** @throws DeputyError `unsupported_token_type` */
export const parseTokenType = (value: string, parameter: string): TokenTypeUri => {
  if (!TOKEN_TYPE.test(value)) throw refuse('unsupported_token_type', { token_type: value.slice(0, 100), parameter })
  return value as TokenTypeUri
}

/** The parts of a token request that do not depend on the grant. @throws DeputyError of the category request */
export const parseTokenRequest = (form: Form): TokenRequest => {
  const scopes = parseScopes(form.optional('scope'))
  const requested = form.optional('requested_token_type')
  const tool = parseTool(form.optional('tool'))
  const rejected = form.optional('rejected_token')
  if (rejected !== undefined && rejected.length > MAX_REJECTED_LENGTH)
    throw refuse('malformed_request', { problem: `rejected_token is longer than ${MAX_REJECTED_LENGTH} characters` })
  return {
    audiences: parseTargets(form, 'audience'),
    resources: parseTargets(form, 'resource'),
    ...(scopes === undefined ? {} : { scopes }),
    ...(requested === undefined ? {} : { requestedTokenType: parseTokenType(requested, 'requested_token_type') }),
    ...(tool === undefined ? {} : { tool }),
    ...(rejected === undefined ? {} : { rejected: new Secret(rejected) }),
  }
}

/**
 * A token exchange request (RFC 8693 section 2.1). `subject_token` is needed exactly once and never empty: nothing
 * else can stand in for it (threat 12). `actor_token_type` is present exactly when `actor_token` is.
 */
export const parseTokenExchange = (form: Form): TokenExchangeRequest => {
  const subjectToken = new Secret(form.required('subject_token'))
  const subjectTokenType = parseTokenType(form.required('subject_token_type'), 'subject_token_type')
  const actorToken = form.optional('actor_token')
  const actorTokenType = form.optional('actor_token_type')
  if ((actorToken === undefined) !== (actorTokenType === undefined)) {
    throw refuse('malformed_request', { problem: 'actor_token and actor_token_type go together' })
  }
  return {
    ...parseTokenRequest(form),
    subjectToken,
    subjectTokenType,
    ...(actorToken === undefined ? {} : { actorToken: new Secret(actorToken) }),
    ...(actorTokenType === undefined ? {} : { actorTokenType: parseTokenType(actorTokenType, 'actor_token_type') }),
  }
}
