/** The pages of the world's providers: a person chooses a user, and allows access. */
import type { DevUser } from './facts.ts'

const escape = (text: string): string =>
  text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('"', '&quot;').replaceAll("'", '&#39;')

const STYLE =
  'body{font:1rem/1.5 system-ui,sans-serif;margin:0;background:#f8fafc;color:#0f172a}main{max-width:32rem;margin:4rem auto;padding:2rem;background:#fff;border-radius:12px;box-shadow:0 1px 3px #0002}button{font:inherit;display:block;width:100%;margin:.5rem 0;padding:.6rem 1rem;text-align:left;border:1px solid #94a3b8;border-radius:8px;background:#fff;color:#0f172a;cursor:pointer}button:hover,button:focus{border-color:#4338ca}small{color:#475569}input{font:inherit;padding:.4rem;width:100%;box-sizing:border-box}'

/** @param body HTML */
export const page = (title: string, body: string): string =>
  `<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>${escape(title)}</title><style>${STYLE}</style></head><body><main><h1>${escape(title)}</h1>${body}</main></body></html>`

/** What a sign-in page asks for, and what it makes of the answer. */
export interface SignInPage {
  /** The HTML in the form. */
  readonly fields: string
  /** The user; undefined when the answer names none. */
  readonly userOf: (form: URLSearchParams) => string | undefined
}

/** A button for each user, and no password. */
export const signInByButton = (users: Readonly<Record<string, DevUser>>): SignInPage => ({
  fields: Object.entries(users)
    .map(
      ([name, { groups = [], about }]) =>
        `<button name="login" value="${escape(name)}"><strong>${escape(name)}</strong>${groups.length === 0 ? '' : ` of ${escape(groups.join(', '))}`}${about === undefined ? '' : `<br><small>${escape(about)}</small>`}</button>`,
    )
    .join(''),
  userOf: (form) => {
    const login = form.get('login')
    return login !== null && Object.hasOwn(users, login) ? login : undefined
  },
})

export const signInPage = (title: string, { fields }: SignInPage): string =>
  page(`${title}: sign in`, `<form method="post">${fields}</form>`)

export const consentPage = (title: string, what: { user: string; client: string; scope: string }): string =>
  page(
    `${title}: allow access`,
    `<p>${escape(what.client)} asks for ${escape(what.scope)} of ${escape(what.user)}.</p><form method="post"><button name="decision" value="allow">Allow</button> <button name="decision" value="deny">Deny</button></form>`,
  )
