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
import { beginLoginSession } from './login-session.ts'
import { donePage, loginPage } from './page.ts'
import { assertMaySignIn } from './parties.ts'
import { rememberSignIn, type SignedIn } from './signed-in.ts'

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
    const { link, wish, user, display, idToken } = step
    const { tenant, uid } = wish
    assertMaySignIn(deps, tenant, user)
    await deps.attempts.take('login', link)
    if (form['decision'] !== 'allow')
      return { page: donePage('You were not signed in', 'Nothing on that computer acts for you.') }
    const expiresAt = await beginLoginSession(deps, wish, { ...step, idToken: secretOf(idToken) })
    return {
      page: donePage(
        'Signed in',
        `The Unix user ${uid} acts as ${shownUser(user, display)} until ${new Date(expiresAt).toISOString()}.`,
      ),
    }
  },
})
