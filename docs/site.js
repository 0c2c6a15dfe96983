// The theme lets wide tables and long commands scroll; a tabindex lets the keyboard do so, too.
function reach() {
  for (const box of document.querySelectorAll(".md-typeset__scrollwrap, pre > code")) {
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  }
  // Each of its copy buttons stands in a landmark without a name.
  for (const nav of document.querySelectorAll(".md-code__nav")) nav.setAttribute("role", "none");
}
addEventListener("load", reach);
addEventListener("resize", reach);
