import { assertNotRevoked } from '#identity/validity'
import { ownValue } from '#foundation/text'
import type { Step } from './attempt.ts'
import {
  assertBrowser,
  onlyState,
  shownUser,
  textOf,
  type ConnectFlow,
  type StepAnswer,
  type StepDependencies,
} from './step.ts'
import { consentPage, donePage } from './page.ts'
import { grantPartiesOf, ownerOf } from './parties.ts'
import type { NewGrant } from './new-grant.ts'

/** How long a consent is remembered (ms). */
const CONSENT_LIFETIME_MS = 365 * 86_400_000

const dayOf = (at: number): string => new Date(at).toISOString().slice(0, 10)

type ShownPage = Extract<StepAnswer, { page: string }>

/** Redirects the browser to the service. @param granted the scopes that the user has consented to */
const redirectToService = async (
  deps: StepDependencies,
  { wish, browser, link }: Pick<Step<'consent'>, 'wish' | 'browser' | 'link'>,
  granted: readonly string[],
): Promise<StepAnswer> => {
  const { downstream } = grantPartiesOf(deps, wish)
  return { redirect: await deps.authorization.begin({ wish, granted, downstream, browser, link }) }
}

/**
 * Whether a grant may be stored. Asked before it is stored, and again when it is: an admin may revoke in between, here or at
 * another node. @throws DeputyError `revoked`, and those of `grantPartiesOf`
 */
const assertStands = (deps: StepDependencies, { wish, consentedAt }: Step<'authorization'>): void => {
  const { downstream } = grantPartiesOf(deps, wish)
  const { tenant, user, server } = wish
  const dependsOn = {
    tenant,
    user,
    server,
    downstreams: [wish.downstream],
    provider: downstream.provider,
    tokens: [],
    since: consentedAt,
  }
  assertNotRevoked(dependsOn, deps)
}

/** Stores a grant, records it, and ends the one that it replaces. What fails leaves no grant. */
const store = async (deps: StepDependencies, step: Step<'authorization'>, grant: NewGrant['grant']): Promise<void> => {
  const { grants } = deps.store
  assertStands(deps, step)
  const replaced = await grants.find(grant)
  const stored = await grants.put(grant)
  try {
    // A revocation between the check and the write found no grant to remove: it is asked for again now.
    await deps.membership.catchUp()
    assertStands(deps, step)
    await deps.record('connect.complete', 'done', step.wish, {
      grant: stored.id,
      scopes: grant.scopes,
      provider: grant.provider,
    })
    if (replaced !== undefined) deps.endReplaced(replaced, stored)
  } catch (error) {
    await grants.remove({ id: stored.id })
    throw error
  }
}

/** The consent page, which only the user for whom the link was made sees. */
const showConsent = async (deps: StepDependencies, step: Step<'consent'>): Promise<ShownPage> => {
  const { wish, display } = step
  const { server, downstream } = grantPartiesOf(deps, wish)
  const csrf = await deps.attempts.begin('consent', wish.tenant, step)
  // Browsers hold a form's redirects to `form-action` as well: the one place that it may lead to is named.
  const target = await deps.authorization.target(wish, downstream)
  const page = consentPage({
    server: server.name ?? server.server,
    owner: server.owner,
    service: downstream.name ?? downstream.downstream,
    user: shownUser(wish.user, display),
    tenant: wish.tenant,
    csrf,
    scopes: wish.scopes.map((scope) => ({ scope, words: ownValue(downstream.scopes, scope) ?? scope })),
    until: dayOf(deps.clock.now() + CONSENT_LIFETIME_MS),
    redirectHost: target.host,
  })
  return { page, formTarget: target.origin }
}

/** From the sign-in to a grant: consent, the authorization at the service, and the grant in the store. */
export const createGrantSteps = (
  deps: StepDependencies,
): Pick<ConnectFlow, 'consented' | 'authorized'> & {
  /** The consent page, or the redirect to the service where the user has consented to all of it before. */
  askConsent(step: Step<'consent'>): Promise<StepAnswer>
} => ({
  async askConsent(step) {
    const { wish } = step
    grantPartiesOf(deps, wish)
    const remembered = await deps.store.consents.find(ownerOf(wish))
    const isRemembered =
      remembered !== undefined &&
      remembered.until > deps.clock.now() &&
      wish.scopes.every((scope) => remembered.granted.includes(scope))
    return isRemembered ? redirectToService(deps, step, wish.scopes) : showConsent(deps, step)
  },

  async consented(form, browser) {
    const step = await deps.attempts.take('consent', textOf(form['csrf']))
    assertBrowser(browser, step.browser)
    const { wish, display } = step
    const known = display === undefined ? {} : { display }
    grantPartiesOf(deps, wish)
    const granted = wish.scopes.filter((scope, at) => form[`scope-${at}`] === scope)
    if (form['decision'] !== 'allow' || (granted.length === 0 && wish.scopes.length > 0)) {
      await deps.record('connect.consent', 'refused', wish, {
        ...known,
        asked: { scopes: wish.scopes },
        decision: { allowed: false },
      })
      return { page: donePage('Nothing was connected', 'You did not allow it, so the server gets nothing.') }
    }
    await deps.record('connect.consent', 'done', wish, { ...known, asked: { scopes: wish.scopes }, granted })
    const at = deps.clock.now()
    const until = at + CONSENT_LIFETIME_MS
    await deps.store.consents.put({ ...ownerOf(wish), asked: wish.scopes, granted, at, until })
    return redirectToService(deps, step, granted)
  },

  async authorized(answer, browser) {
    const step = await deps.attempts.take('authorization', onlyState(answer))
    assertBrowser(browser, step.browser)
    const { downstream } = grantPartiesOf(deps, step.wish)
    const { grant, end } = await deps.authorization.complete(answer, step, downstream)
    try {
      await store(deps, step, grant)
    } catch (error) {
      await end().catch((failure: unknown) => {
        deps.logger.warn({ err: failure }, 'tokens of a grant that was not stored could not be ended at their provider')
      })
      throw error
    }
    await deps.attempts.take('connect', step.link).catch(() => undefined)
    deps.links.used()
    const service = downstream.name ?? downstream.downstream
    return {
      page: donePage('Connected', `${service} is connected. Go back to where you came from and try again.`),
    }
  },
})
