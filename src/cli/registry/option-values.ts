/** Values of options that several commands take, read from text. */
import { userInfo } from 'node:os'
import { openIssuerClaim, resourceSchema } from '#config'
import type { TenantFacts } from './registry-documents.ts'
import { assertUrl } from './registry-file.ts'
import { CommandError, exit } from '../terminal.ts'

/** `NAME=VALUE` pairs. @throws CommandError `usage` */
export const pairsOf = (option: string, texts: readonly string[] = []): Record<string, string> =>
  Object.fromEntries(
    texts.map((text) => {
      const at = text.indexOf('=')
      if (at < 1) throw new CommandError(exit.usage, `${option} ${text} is no pair.`, `Write ${option} NAME=VALUE.`)
      return [text.slice(0, at), text.slice(at + 1)]
    }),
  )

/** Texts that stand with commas between. */
export const listOf = (text: string): string[] => [
  ...new Set(
    text
      .split(',')
      .map((each) => each.trim())
      .filter((each) => each !== ''),
  ),
]

/** Scopes with their descriptions: `NAME=Description`, or names with commas between, which describe themselves. */
export const scopesOf = (texts: readonly string[] = []): Record<string, string> =>
  Object.fromEntries(
    texts.flatMap((text) => {
      const at = text.indexOf('=')
      return at > 0 ? [[text.slice(0, at), text.slice(at + 1)]] : listOf(text).map((scope) => [scope, scope])
    }),
  )

/** `NAME=VALUE` of a claim. @throws CommandError `usage` for another form, and where the issuer needs one and there is none */
export const claimOf = (text: string | undefined, issuer: string): TenantFacts['claim'] => {
  const needed = openIssuerClaim(issuer)
  if (text === undefined) {
    if (needed === undefined) return undefined
    throw new CommandError(
      exit.usage,
      `Every person can have an account at ${issuer}, so a claim has to name the organization.`,
      `Add --tenant-claim ${needed}=VALUE, for example --tenant-claim ${needed}=acme.example`,
    )
  }
  const at = text.indexOf('=')
  if (at < 1 || at === text.length - 1)
    throw new CommandError(exit.usage, `--tenant-claim ${text} names no claim and value.`, 'Write NAME=VALUE.')
  return { claim: text.slice(0, at), value: text.slice(at + 1) }
}

/** @throws CommandError unless it may be the resource of an MCP server: an http(s) URL without fragment (RFC 8707, MCP) */
export const assertResource = (resource: string): void => {
  assertUrl('a server', resource)
  const { error } = resourceSchema.safeParse(resource)
  if (error !== undefined)
    throw new CommandError(exit.usage, `${resource} cannot be the resource of a server: ${error.issues[0]!.message}.`)
}

/** The owner where none is named: the Unix user who runs the command. */
export const currentUser = (): string => {
  try {
    return userInfo().username
  } catch {
    return `uid ${process.getuid?.() ?? 'unknown'}`
  }
}
