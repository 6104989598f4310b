import type { Step } from './attempt.ts'
import {
  assertBrowser,
  secretOf,
  shownUser,
  textOf,
  type ConnectFlow,
  type StepAnswer,
  type StepDependencies,
} from './step.ts'
import { donePage, loginPage } from './page.ts'
import { assertMaySignIn } from './parties.ts'
import { rememberSignIn, type SignedIn } from './signed-in.ts'

/** How long a Unix user acts for the user who has signed in (ms). */
const SESSION_LIFETIME_MS = 12 * 3_600_000

type LoginPurpose = Extract<Step<'sign_in'>['purpose'], { kind: 'login' }>

/** From the sign-in to a login session: the page that names the Unix user, and its answer. */
export const createLoginSteps = (
  deps: StepDependencies,
): Pick<ConnectFlow, 'confirmed'> & {
  /** The page on which the user confirms for which Unix user this is. */
  confirm(purpose: LoginPurpose, browser: string, who: SignedIn): Promise<StepAnswer>
} => ({
  async confirm({ wish, link }, browser, who) {
    const { user, display } = who
    assertMaySignIn(deps, wish.tenant, user)
    const csrf = await deps.attempts.begin('confirm', wish.tenant, {
      browser,
      link,
      wish,
      ...rememberSignIn(who, deps.clock.now()),
    })
    const otherAccount = `/login/${link}?account=other`
    const page = loginPage({ user: shownUser(user, display), tenant: wish.tenant, uid: wish.uid, csrf, otherAccount })
    return { page }
  },

  async confirmed(form, browser) {
    const step = await deps.attempts.take('confirm', textOf(form['csrf']))
    assertBrowser(browser, step.browser)
    const { link, wish, user, display, issuer, groups, claims, idToken, signedInAt } = step
    const { tenant, uid } = wish
    assertMaySignIn(deps, tenant, user)
    await deps.attempts.take('login', link)
    if (form['decision'] !== 'allow')
      return { page: donePage('You were not signed in', 'Nothing on that computer acts for you.') }
    await deps.audit.append({
      id: wish.correlationId,
      event: 'login',
      outcome: 'done',
      tenant,
      user,
      detail: { uid, issuer, ...(display === undefined ? {} : { display }) },
    })
    const expiresAt = signedInAt + SESSION_LIFETIME_MS
    await deps.store.sessions.put({ uid, tenant, user, issuer, groups, claims, signedInAt, expiresAt })
    await deps.identityTokens.keep({ tenant, user, issuer }, secretOf(idToken))
    return {
      page: donePage(
        'Signed in',
        `The Unix user ${uid} acts as ${shownUser(user, display)} until ${new Date(expiresAt).toISOString()}.`,
      ),
    }
  },
})
