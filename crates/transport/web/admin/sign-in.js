// A link on another site leads here even if one is signed in: with it the browser sends no cookie, but now it does.
import { get } from "./api.js";

if (document.referrer !== "" && new URL(document.referrer).origin !== location.origin) {
  get("overview?minutes=1").then(() => location.replace("/admin/queues"), () => {});
}
