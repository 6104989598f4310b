import { z } from 'zod'
import type { ProviderSignIn } from '#config'
import { DeputyError, refuse } from '#errors'
import type { Secret } from '#foundation/crypto'
import { connectionProblem, type Egress } from '#foundation/outbound'
import { claimAt } from '#foundation/text'
import type { ProviderClient } from './client.ts'

/** Deadline of one answer, and of all of a sign-in (ms). */
const [ANSWER_MS, ALL_MS] = [10_000, 20_000]
/** The longest answer that is read (bytes). */
const MAX_ANSWER_BYTES = 524_288
/** Pages of one list of groups at most: more are refused, because a group that is left out could be one that a policy forbids. */
const MAX_PAGES = 20

/**
 * What a plain OAuth provider says about the user of an access token: the members that its file names, and `groups`.
 * @throws DeputyError `provider_refused`, `provider_unavailable`
 */
export type ReadUserinfo = (
  client: ProviderClient,
  accessToken: Secret,
  /** Members that the tenant's file names besides. */
  members: readonly string[],
) => Promise<Readonly<Record<string, unknown>>>

/** The further page of a list (RFC 8288). */
const nextPage = (response: Response, url: URL): URL | undefined => {
  const links = (response.headers.get('link') ?? '').matchAll(/<([^>]*)>([^<]*)/g)
  const next = [...links].find(([, , parameters]) => /;\s*rel="?next\b/i.test(parameters!))?.[1]
  return next === undefined ? undefined : new URL(next, url)
}

/** The name of a group as the file writes it, with members of the item. @returns undefined where a member is missing */
const nameOf = (item: unknown, template: string): string | undefined => {
  const members = z.record(z.string(), z.unknown()).safeParse(item).data
  if (members === undefined) return undefined
  let isWhole = true
  const name = template.replace(/\{([A-Za-z_][\w.]*)\}/g, (_, path: string) => {
    const value = claimAt(members, path)
    if (typeof value !== 'string' && typeof value !== 'number') isWhole = false
    return String(value)
  })
  return isWhole && name !== '' ? name : undefined
}

/** One reading of a user. */
class UserinfoReading {
  readonly #egress: Egress
  readonly #provider: string
  readonly #headers: Headers
  readonly #signal = AbortSignal.timeout(ALL_MS)

  constructor(egress: Egress, { provider }: ProviderClient, accessToken: Secret) {
    this.#egress = egress
    this.#provider = provider.provider
    this.#headers = new Headers({
      ...provider.token_requests.headers,
      accept: 'application/json',
      'user-agent': 'deputy',
      authorization: `Bearer ${accessToken.reveal()}`,
    })
  }

  #refused(url: URL, problem: string): DeputyError {
    return refuse('provider_refused', { provider: this.#provider, problem: `${url.pathname} ${problem}` })
  }

  async #get(url: URL): Promise<{ readonly response: Response; readonly body: unknown }> {
    const init = { headers: this.#headers, timeout: ANSWER_MS, maxBytes: MAX_ANSWER_BYTES, signal: this.#signal }
    const response = await this.#egress(url, init).catch((error: unknown) => {
      if (error instanceof DeputyError) throw error
      const problem = connectionProblem(error) ?? 'it did not answer in time'
      throw refuse('provider_unavailable', { provider: this.#provider, seconds: 30, problem }, error)
    })
    if (response.status >= 500 || response.status === 429)
      throw refuse('provider_unavailable', {
        provider: this.#provider,
        seconds: 30,
        problem: `${url.pathname} answered ${response.status}`,
      })
    if (!response.ok) throw this.#refused(url, `answered ${response.status}`)
    try {
      return { response, body: await response.json() }
    } catch {
      throw this.#refused(url, 'answered no JSON')
    }
  }

  async user(endpoint: string): Promise<Readonly<Record<string, unknown>>> {
    const url = new URL(endpoint)
    const user = z.record(z.string(), z.unknown()).safeParse((await this.#get(url)).body).data
    if (user === undefined) throw this.#refused(url, 'answered no JSON object')
    return user
  }

  async groups({ endpoint, name }: { readonly endpoint: string; readonly name: string }): Promise<string[]> {
    const groups: string[] = []
    let url: URL | undefined = new URL(endpoint)
    for (let page = 1; url !== undefined; page += 1) {
      if (page > MAX_PAGES) throw this.#refused(url, `has more than ${MAX_PAGES} pages`)
      const { response, body } = await this.#get(url)
      if (!Array.isArray(body)) throw this.#refused(url, 'answered no JSON list')
      const names = body.map((item) => nameOf(item, name))
      if (names.includes(undefined)) throw this.#refused(url, `lists an item without ${name}`)
      groups.push(...(names as string[]))
      const next = nextPage(response, url)
      // The request carries the token, which is for this origin.
      if (next !== undefined && next.origin !== url.origin) throw this.#refused(url, 'continues at another origin')
      url = next
    }
    return groups
  }
}

const claimsOf = (user: Readonly<Record<string, unknown>>, members: readonly string[]): Record<string, unknown> =>
  Object.fromEntries(
    members.flatMap((member) => {
      const value = claimAt(user, member)
      return ['string', 'number', 'boolean'].includes(typeof value) ? [[member, value]] : []
    }),
  )

/** @param egress the guarded way out: each answer is bounded and has a deadline, and no redirect is followed */
export const createUserinfo = (egress: Egress): ReadUserinfo => {
  return async (client, accessToken, members) => {
    const signIn: ProviderSignIn = client.provider.sign_in!
    const reading = new UserinfoReading(egress, client, accessToken)
    const user = await reading.user(signIn.userinfo_endpoint)
    const groups = await Promise.all(
      signIn.groups.map(async (each) =>
        'endpoint' in each
          ? reading.groups(each)
          : [claimAt(user, each.claim) ?? []].flat().filter((group): group is string => typeof group === 'string'),
      ),
    )
    const named = [signIn.user, signIn.display ?? signIn.user, ...signIn.claims, ...members]
    return { ...claimsOf(user, named), groups: [...new Set(groups.flat())] }
  }
}
