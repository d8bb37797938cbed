(function(){
"use strict";
var good=Date.now(),lost=document.getElementById("lost");
function again(){setTimeout(ask,2000);}
function ask(){
if(document.hidden)return again();
fetch("/",{cache:"no-store"}).then(function(answer){if(!answer.ok)throw 0;return answer.text();}).then(function(text){
var fresh=new DOMParser().parseFromString(text,"text/html"),main=fresh.querySelector("main");
if(main){document.querySelector("main").replaceWith(document.adoptNode(main));document.title=fresh.title;good=Date.now();lost.hidden=true;}
}).catch(function(){lost.hidden=Date.now()-good<5000;}).then(again);
}
again();
})();
