import { html, page, type Markup } from './page.ts'

/** The form of the device page. */
export interface DeviceForm {
  readonly action: string
  /** Value that shows that the form is of this browser's page. */
  readonly xsrf: string
}

const hidden = (name: string, value: string): Markup => html`<input type="hidden" name="${name}" value="${value}" />`

/** Asks for the code that a program without a browser shows. @param view.problem what was wrong with the last one */
export const deviceCodePage = (
  view: DeviceForm & { readonly code: string; readonly problem: string | undefined },
): string =>
  page(
    'Sign in on another device',
    html` ${view.problem === undefined ? '' : html`<p role="alert">${view.problem}</p>`}
      <p>Type the code that your program shows.</p>
      <form method="post" action="${view.action}">
        ${hidden('xsrf', view.xsrf)}
        <label
          >Code <input name="user_code" value="${view.code}" autocomplete="off" spellcheck="false" required
        /></label>
        <button class="allow">Continue</button>
      </form>`,
  )

/** RFC 8628 section 5.4: a code that another person has sent signs that person's program in. */
export const deviceConfirmPage = (view: DeviceForm & { readonly code: string; readonly client: string }): string =>
  page(
    `Sign in at ${view.client}?`,
    html` <p>
        Continue only if you have just started <strong>${view.client}</strong> yourself, and it shows
        <strong>${view.code}</strong>. If someone has sent you the code, their program would be signed in as you.
      </p>
      <form method="post" action="${view.action}">
        ${hidden('xsrf', view.xsrf)} ${hidden('user_code', view.code)} ${hidden('confirm', 'yes')}
        <button class="allow">It shows this code</button>
        <button name="abort" value="yes">It does not</button>
      </form>`,
  )
