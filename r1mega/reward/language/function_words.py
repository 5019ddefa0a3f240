"""The commonest short words of languages that share a script.

py3langid was made for documents: its features tell "nicht" and "entonces" well, but of "the", "is", "so" they know
nothing, and those are every third word of a sentence. Thirty to fifty words a language mend that, in lower case and
without those of one letter; a word of several languages stands with each.
"""

from collections.abc import Mapping

_WORDS = {
    "en": "the then is of to that this with which we it let if so are was be have has had not but from as by on in an "
          "for can at or and will would there their they these because only each first than what when where how "
          "therefore thus hence since must should our us all no gives get",
    "de": "der die das ist und nicht wir ein eine einen zu von mit auf für dann also wenn aber oder auch den dem des "
          "im in sich es sind wird kann durch nur noch wie was so bei nach aus dass zuerst daher weil war an als am "
          "um haben",
    "fr": "le la les est et pas nous un une de du des avec sur pour alors donc si mais ou aussi dans se il elle sont "
          "peut par que qui ce cette on au aux ne plus comme puis car en ça ces son sa était abord",
    "es": "el la los las es no un una de del con en para entonces si pero también se son puede por que este esta al "
          "más como luego porque su lo hay así sin primero nos ya era muy",
    "it": "il la lo gli le di del della che non un una per con si da in sono ma anche come più questo questa se poi "
          "quindi perché allora ci al nel dei abbiamo prima ha era è",
    "pt": "os as de do da dos das que não um uma para com em no na se por mais mas também como este esta são então "
          "porque ao pela pelo portanto isso primeiro temos ou seu era foi é",
    "nl": "de het een en van is dat niet we wij op te met voor dan dus als maar of ook er in zijn aan om bij uit nog "
          "door naar eerst omdat wordt deze dit hebben kan moet was over",
    "sv": "det är och en ett som att inte vi av på med för då så om men eller också den de till från kan har vara "
          "först eftersom därför detta blir var ska när",
    "da": "det er og en et som at ikke vi af på med for da så om men eller også den de til fra kan har være først "
          "fordi derfor dette bliver var skal når nu",
    "no": "det er og en et som at ikke vi av på med for da så om men eller også den de til fra kan har være først "
          "fordi derfor dette blir var skal når nå",
    "fi": "on ja ei se että me kun niin jos mutta tai myös ovat ole joka tämä siis sitten koska ensin voi kuin mitä "
          "nyt saadaan olisi vain hän ne sen",
    "pl": "jest nie to się na że do jak ale lub czy więc jeśli tym tego ten ta są za od po dla tylko już być ponieważ "
          "najpierw potem przez który co mamy może",
    "cs": "je není to se na že do jak ale nebo tak pokud tím toho ten ta jsou za od po pro jen už být protože nejprve "
          "pak který co máme může když tedy by",
    "hu": "az és nem hogy ez egy is van ha de vagy akkor mert csak már még meg lesz kell mint ezt így először tehát "
          "volt ki el azt minden lehet",
    "ro": "este și nu un pe cu de la în că să din pentru dar sau dacă atunci deci mai care sunt prin aceasta acest ce "
          "avem se au fi mai întâi apoi",
    "tr": "bir ve bu ile de da için değil ise ama veya çok daha olarak önce sonra çünkü eğer var yok ne gibi kadar "
          "her olur o zaman biz şu ya",
    "vi": "là và của có không chúng ta một các cho với được này thì nếu nhưng hoặc để từ trong số đó vì nên ra khi "
          "như trước sau phải tôi bằng",
    "id": "yang dan di ke dari ini itu tidak kita adalah dengan untuk pada jika maka atau juga akan kami karena ada "
          "oleh sebagai lalu bisa harus dapat jadi satu tetapi",
    "ru": "не что это мы на по так если то как для из от но или все всё его её он она они затем тогда поэтому сначала "
          "потом нужно нам есть быть чтобы только был было при уже значит",
    "uk": "та що це ми на по так якщо то як для із від але або всі його її він вона вони потім тоді тому спочатку "
          "треба нам бути щоб тільки бо був було при вже не отже є",
    "bg": "не че това ние на по така ако то как за от но или всички му го той тя те след тогава затова първо трябва "
          "ни са да се ще само беше при вече със",
    "sr": "не да то ми на по тако ако је како за од али или све га он она они онда зато прво треба нам су се ће само "
          "био при већ са што",
    "be": "не што гэта мы на па так калі то як для із ад але або усе яго яе ён яна яны потым тады таму спачатку трэба "
          "нам быць каб толькі бо быў было пры ўжо",
    "kk": "және бұл біз бір үшін емес мен да де ол егер онда бірақ немесе тек сонда алдымен керек болса болады еді "
          "бар жоқ деп сол осы",
    "ar": "في من على إلى أن هذا هذه التي الذي لا ما هو هي كان إذا ثم أو لكن كل مع عن لأن يجب أولا نحن لقد إذن بعد قد",
    "fa": "در از به که این آن را با است برای می نمی ما اگر پس یا اما هر هم تا باید ابتدا چون بود شود یک دو کنیم های",
    "ur": "میں سے کو کی کا کے ہے ہیں اور یہ وہ پر ہم اگر تو یا لیکن ہر بھی تک پہلے کیونکہ تھا ایک نہیں نے کر پھر",
    "hi": "में से को की का के है हैं और यह वह पर हम अगर तो या लेकिन हर भी तक पहले क्योंकि था एक नहीं ने कर फिर",
    "mr": "आणि आहे हे ते या मध्ये आपण जर तर किंवा पण हा ही आहेत नाही एक होते त्या म्हणून प्रथम कारण आता करू",
    "ne": "छ छन् र यो त्यो मा ले लाई को का की हामी यदि भने वा तर पनि पहिले किनभने थियो एक छैन अब गर्छौं हो हुन्छ",
}

LANGUAGES_OF: Mapping[str, frozenset[str]] = {
    word: frozenset(language for language, line in _WORDS.items() if word in line.split())
    for word in {word for line in _WORDS.values() for word in line.split()}
}
